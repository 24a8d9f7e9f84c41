"""Reading a ledger from a store: entries, tiles and proofs of one committed state."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Connection, MetaData

from ostiary.errors import NotFound
from ostiary.ledger.checkpoint import Checkpoint, KeyType, sign, verifier_key
from ostiary.ledger.memory import MemoryLog
from ostiary.ledger.proof import check_consistency
from ostiary.ledger.tlog_proof import open_proof
from ostiary.recorder.ledger_store import LedgerStore
from ostiary.store.database import open_for_writing, sqlite_url
from ostiary.store.ledger_reader import MAX_ENTRIES, LedgerReader
from ostiary.store.ledger_tables import define_ledger_tables

METADATA = MetaData()
TABLES = define_ledger_tables(METADATA)
ORIGIN = "shop.example/ca"
KEY = Ed25519PrivateKey.from_private_bytes(b"\x05" * 32)
ENTRIES = [b'{"serial":"%x"}' % n for n in range(600)]
SIGNED = 590
"""The newest checkpoint is of fewer entries than the store has: the last turn's is not stored yet."""


@pytest.fixture(scope="module")
def transaction(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    path: Path = tmp_path_factory.mktemp("ledger") / "store"
    engine = open_for_writing(sqlite_url(path))
    with engine.begin() as tx:
        METADATA.create_all(tx)
    store = LedgerStore(engine, TABLES)
    with engine.begin() as tx:
        store.append(tx, ENTRIES, [None] * len(ENTRIES))
        checkpoint = Checkpoint.of(ORIGIN, MemoryLog(ENTRIES[:SIGNED]).frontier)
        store.store_note(tx, sign(checkpoint, ORIGIN, KEY))
    with engine.begin() as tx:
        yield tx
    engine.dispose()


@pytest.fixture
def reader(transaction: Connection) -> LedgerReader:
    return LedgerReader(transaction, TABLES)


@pytest.mark.parametrize("index", [0, 255, 256, 588, 589])
def test_a_proof_convinces_whoever_has_the_entry_and_the_key(reader: LedgerReader, index: int) -> None:
    proof, entry = reader.prove(index)
    assert entry == ENTRIES[index]
    key = verifier_key(ORIGIN, KEY, KeyType.LOG)
    checkpoint, proven = open_proof(proof, entry=entry, keys=[key])
    assert (proven, checkpoint.size) == (index, SIGNED)


@pytest.mark.parametrize("index", [-1, 590, 599, 600])
def test_what_no_checkpoint_holds_yet_is_not_found(reader: LedgerReader, index: int) -> None:
    with pytest.raises(NotFound, match=f"no entry {index} in the signed tree of 590 entries"):
        reader.prove(index)


@pytest.mark.parametrize("old_size", [0, 1, 256, 300, 590])
def test_the_newest_tree_is_shown_to_begin_with_an_earlier_one(reader: LedgerReader, old_size: int) -> None:
    check_consistency(
        old_size=old_size,
        old_root=MemoryLog(ENTRIES[:old_size]).frontier.root(),
        new_size=SIGNED,
        new_root=MemoryLog(ENTRIES[:SIGNED]).frontier.root(),
        path=reader.consistency(old_size),
    )


def test_entries_come_in_order_and_in_bounded_number(reader: LedgerReader) -> None:
    assert reader.entries(598, 10) == [(598, ENTRIES[598]), (599, ENTRIES[599])]
    assert len(reader.entries(0, 10**9)) == min(MAX_ENTRIES, len(ENTRIES))
    assert reader.entries(600, 1) == []


def test_a_page_has_as_many_entries_as_were_asked_for_or_fit(reader: LedgerReader) -> None:
    size = len(ENTRIES[20])
    assert reader.page(20, 3, max_bytes=10**6) == (ENTRIES[20:23], 23)
    assert reader.page(20, 30, max_bytes=3 * size) == (ENTRIES[20:23], 23)
    assert reader.page(20, 30, max_bytes=1) == (ENTRIES[20:21], 21)
    assert reader.page(598, 10, max_bytes=10**6) == (ENTRIES[598:], 600)
    assert reader.page(600, 10, max_bytes=10**6) == ([], 600)


def test_leaf_tiles_are_the_full_ones_in_order(reader: LedgerReader) -> None:
    log = MemoryLog(ENTRIES)
    assert reader.leaf_tiles(0, 10) == log.rows[0, 0] + log.rows[0, 1]
    assert reader.leaf_tiles(0, 1) == log.rows[0, 0]
    assert reader.leaf_tiles(1, 10) == log.rows[0, 1]
    assert reader.leaf_tiles(2, 10) == b""


@pytest.mark.parametrize(("level", "index", "width"), [(0, 2, 89), (0, 3, 1), (1, 0, 3), (2, 0, 1)])
def test_a_tile_that_is_not_there_is_not_found(
    reader: LedgerReader, level: int, index: int, width: int
) -> None:
    with pytest.raises(NotFound):
        reader.hashes.tile(level, index, width)


def test_tiles_are_those_of_a_ledger_in_memory(reader: LedgerReader) -> None:
    log = MemoryLog(ENTRIES)
    for level, index, width in ((0, 0, 256), (0, 1, 7), (0, 2, 88), (1, 0, 2)):
        assert reader.hashes.tile(level, index, width) == log.tile(level, index, width)


def test_before_the_first_checkpoint_there_is_no_note(tmp_path: Path) -> None:
    engine = open_for_writing(sqlite_url(tmp_path / "store"))
    with engine.begin() as tx:
        METADATA.create_all(tx)
    LedgerStore(engine, TABLES)
    with engine.begin() as tx, pytest.raises(NotFound, match="no signed checkpoint yet"):
        LedgerReader(tx, TABLES).note()
    engine.dispose()
