"""The ledger's verbs over a real store: what they return proves itself, and bad arguments are named."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import MetaData

from ostiary.admin.ledger_verbs import MAX_ANSWER_BYTES, ledger_verbs
from ostiary.admin.protocol import decode_page, page_end
from ostiary.admin.server import Verb
from ostiary.errors import BadInput, NotFound
from ostiary.ledger.canonical import canonical
from ostiary.ledger.checkpoint import Checkpoint, open_note, sign
from ostiary.ledger.note import KeyType, verifier_key
from ostiary.ledger.tlog_proof import open_proof
from ostiary.ledger.tree import Frontier, leaf_hash
from ostiary.recorder.ledger_store import LedgerStore
from ostiary.store.database import open_for_reading, open_for_writing, sqlite_url
from ostiary.store.ledger_tables import define_ledger_tables
from ostiary.work.item import Operator

ORIGIN = "shop.example/ca"
KEY = Ed25519PrivateKey.from_private_bytes(b"\x07" * 32)
OPERATOR = Operator(uid=0, name="root")
LONG = "x" * (MAX_ANSWER_BYTES // 2)
ENTRIES = [canonical({"act": f"{number:064x}", "at": number}) for number in range(20)]
ENTRIES += [canonical({"act": f"{number:064x}", "at": number, "long": LONG}) for number in range(20, 23)]


@pytest.fixture
def verbs(tmp_path: Path) -> Iterator[Mapping[str, Verb]]:
    metadata, url = MetaData(), sqlite_url(tmp_path / "store.sqlite")
    tables = define_ledger_tables(metadata)
    engine = open_for_writing(url)
    metadata.create_all(engine)
    store = LedgerStore(engine, tables)
    root = Frontier().extend([leaf_hash(entry) for entry in ENTRIES]).root()
    with engine.begin() as tx:
        store.lock(tx)
        store.append(tx, ENTRIES, [b""] * len(ENTRIES))
        store.store_note(tx, sign(Checkpoint(origin=ORIGIN, size=len(ENTRIES), root=root), ORIGIN, KEY))
    reading = open_for_reading(url)
    yield ledger_verbs(reading, tables, origin=ORIGIN)
    reading.dispose()
    engine.dispose()


def call(verbs: Mapping[str, Verb], verb: str, **arguments: Any) -> Any:
    return verbs[verb](OPERATOR, arguments)


def verifier() -> Any:
    return verifier_key(ORIGIN, KEY, KeyType.LOG)


def test_a_checkpoint_is_the_signed_note(verbs: Mapping[str, Verb]) -> None:
    answer = call(verbs, "ledger.checkpoint")
    assert (answer["origin"], answer["size"]) == (ORIGIN, len(ENTRIES))
    assert open_note(answer["note"].encode(), [verifier()]).size == len(ENTRIES)


def test_entries_come_in_order_as_they_were_hashed(verbs: Mapping[str, Verb]) -> None:
    rows = call(verbs, "ledger.entries", first=3, count=4)
    assert [(row["index"], row["entry"].encode()) for row in rows] == list(enumerate(ENTRIES))[3:7]
    assert call(verbs, "ledger.entries", first=len(ENTRIES)) == []


def test_long_entries_are_divided_among_answers_and_none_is_lost(verbs: Mapping[str, Verb]) -> None:
    found: list[bytes] = []
    pages = 0
    while rows := call(verbs, "ledger.entries", first=len(found)):
        found += [row["entry"].encode() for row in rows]
        pages += 1
    assert found == ENTRIES
    assert pages > 1


def test_pages_of_entries_lead_from_one_to_the_next(verbs: Mapping[str, Verb]) -> None:
    found: list[bytes] = []
    pages = []
    while count := page_end(page := call(verbs, "ledger.page", first=len(found)))[1]:
        pages.append(count)
        found += decode_page(page)
        assert page_end(page) == (len(found), count)
    assert found == ENTRIES
    assert len(pages) > 1


def test_leaves_are_full_tiles_alone(verbs: Mapping[str, Verb]) -> None:
    assert call(verbs, "ledger.leaves", tile=0) == b""


def test_a_proof_is_of_the_entry_that_was_asked_for(verbs: Mapping[str, Verb]) -> None:
    answer = call(verbs, "ledger.prove", index=5)
    assert answer["entry"].encode() == ENTRIES[5]
    checkpoint, index = open_proof(answer["proof"].encode(), entry=ENTRIES[5], keys=[verifier()])
    assert (checkpoint.size, index) == (len(ENTRIES), 5)
    with pytest.raises(NotFound):
        call(verbs, "ledger.prove", index=len(ENTRIES))


def test_hashes_are_those_of_the_entries(verbs: Mapping[str, Verb]) -> None:
    hashes = call(verbs, "ledger.tile", level=0, index=0, width=2)["hashes"]
    assert bytes.fromhex(hashes) == leaf_hash(ENTRIES[0]) + leaf_hash(ENTRIES[1])


def test_a_consistency_path_leads_from_an_old_tree(verbs: Mapping[str, Verb]) -> None:
    # RFC 6962 section 2.1.2: from a full subtree of 16 to a tree of 23.
    answer = call(verbs, "ledger.consistency", old_size=16)
    assert all(len(bytes.fromhex(node)) == 32 for node in answer["path"])
    assert len(answer["path"]) >= 1
    assert call(verbs, "ledger.consistency", old_size=len(ENTRIES))["path"] == []


@pytest.mark.parametrize(
    ("verb", "arguments", "field"),
    [
        ("ledger.checkpoint", {"size": 1}, "size"),
        ("ledger.entries", {"first": -1}, "first"),
        ("ledger.entries", {"frist": 1}, "frist"),
        ("ledger.find", {}, "terms"),
        ("ledger.page", {"first": -1}, "first"),
        ("ledger.leaves", {"tile": -1}, "tile"),
        ("ledger.leaves", {}, "tile"),
        ("ledger.prove", {"index": "5"}, "index"),
        ("ledger.consistency", {}, "old_size"),
        ("ledger.tile", {"level": 0, "index": 0, "width": 0}, "width"),
        ("ledger.tile", {"level": 0, "index": 0, "width": 257}, "width"),
    ],
)
def test_a_bad_argument_is_named(
    verbs: Mapping[str, Verb], verb: str, arguments: dict[str, Any], field: str
) -> None:
    with pytest.raises(BadInput) as bad:
        call(verbs, verb, **arguments)
    assert bad.value.field == field
