"""The recorder's side of the ledger: what a transaction writes, and what a start reads back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Engine, MetaData, delete, select

from ostiary.errors import InternalFault
from ostiary.ledger.checkpoint import Checkpoint, sign
from ostiary.ledger.tree import Frontier, leaf_hashes
from ostiary.recorder.ledger_store import LedgerStore
from ostiary.store.database import open_for_writing, sqlite_url
from ostiary.store.ledger_reader import LedgerReader
from ostiary.store.ledger_tables import define_ledger_tables

METADATA = MetaData()
TABLES = define_ledger_tables(METADATA)
ORIGIN = "shop.example/ca"
KEY = Ed25519PrivateKey.from_private_bytes(b"\x05" * 32)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = open_for_writing(sqlite_url(tmp_path / "store"))
    with engine.begin() as tx:
        METADATA.create_all(tx)
    yield engine
    engine.dispose()


def entries(first: int, count: int) -> list[bytes]:
    return [json.dumps({"serial": f"{n:x}"}).encode() for n in range(first, first + count)]


def write(store: LedgerStore, engine: Engine, new: list[bytes]) -> None:
    with engine.begin() as tx:
        store.lock(tx)
        appended = store.append(tx, new, [None] * len(new))
    store.advance(appended)


def test_a_start_reads_back_the_tree_that_was_written(engine: Engine) -> None:
    store = LedgerStore(engine, TABLES)
    sizes = (1, 254, 1, 1, 300)
    for size in sizes:
        write(store, engine, entries(store.size, size))
    again = LedgerStore(engine, TABLES)
    assert again.size == sum(sizes)
    frontier = Frontier().extend(leaf_hashes(entries(0, sum(sizes))))
    note = sign(Checkpoint.of(ORIGIN, frontier), ORIGIN, KEY)
    with engine.begin() as tx:
        again.store_note(tx, note)
    assert again.last_signed() == (note, frontier)
    assert again.leaf_hashes(255, 257) == b"".join(leaf_hashes(entries(255, 2)))


def test_an_empty_ledger_has_no_note_and_no_peaks(engine: Engine) -> None:
    assert LedgerStore(engine, TABLES).last_signed() == (b"", Frontier())


def test_what_was_not_committed_changes_nothing(engine: Engine) -> None:
    store = LedgerStore(engine, TABLES)
    write(store, engine, entries(0, 3))
    with pytest.raises(RuntimeError), engine.begin() as tx:
        store.append(tx, entries(3, 5), [None] * 5)
        raise RuntimeError
    assert store.size == LedgerStore(engine, TABLES).size == 3
    write(store, engine, entries(3, 1))
    assert store.size == 4


def test_another_writer_of_the_same_store_is_noticed_under_the_lock(engine: Engine) -> None:
    one, other = LedgerStore(engine, TABLES), LedgerStore(engine, TABLES)
    write(one, engine, entries(0, 3))
    write(other, engine, entries(3, 3))
    write(one, engine, entries(6, 1))
    assert one.size == 7
    with engine.begin() as tx:
        found = LedgerReader(tx, TABLES).entries(0, 10)
    assert found == list(enumerate(entries(0, 7)))


def test_a_salt_is_kept_beside_its_entry_and_none_is_null(engine: Engine) -> None:
    store = LedgerStore(engine, TABLES)
    with engine.begin() as tx:
        store.append(tx, entries(0, 2), [b"salt", None])
        assert list(tx.execute(select(TABLES.entries.c.salt)).scalars()) == [b"salt", None]


def test_a_gap_is_damage(engine: Engine) -> None:
    store = LedgerStore(engine, TABLES)
    write(store, engine, entries(0, 5))
    with engine.begin() as tx:
        tx.execute(delete(TABLES.entries).where(TABLES.entries.c.seq == 2))
    with pytest.raises(InternalFault, match="it is damaged"):
        store.leaf_hashes(0, 5)


def test_entries_are_found_by_what_stands_anywhere_in_them(engine: Engine) -> None:
    store = LedgerStore(engine, TABLES)
    entry = {"certificate": {"serial": "1f", "agent": "a"}, "previous": "2e", "by": {"serial": "3d"}}
    write(store, engine, [json.dumps(entry).encode()])
    with engine.begin() as tx:
        reader = LedgerReader(tx, TABLES)
        for term in ("serial:1f", "serial:3d", "agent:a", "previous:2e"):
            assert [seq for seq, _ in reader.find([term], first=0, count=10)] == [0], term
        assert reader.find(["serial:2e"], first=0, count=10) == []
