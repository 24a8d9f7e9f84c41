"""`ostiary audit verify` of a real store that was changed behind the ledger's back: what is said of each
fault.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Connection, Engine, MetaData, delete, func, select, update

from ostiary.admin.ledger_verbs import MAX_ANSWER_BYTES, ledger_verbs
from ostiary.admin.server import Verb
from ostiary.cli import audit
from ostiary.cli.root import run
from ostiary.ledger.canonical import canonical
from ostiary.ledger.checkpoint import Checkpoint, sign
from ostiary.ledger.memory import MemoryLog
from ostiary.ledger.note import KeyType, verifier_key
from ostiary.ledger.tree import leaf_hash
from ostiary.recorder.ledger_store import LedgerStore
from ostiary.store.database import open_for_reading, open_for_writing, sqlite_url
from ostiary.store.ledger_reader import MAX_ENTRIES
from ostiary.store.ledger_tables import define_ledger_tables
from ostiary.work.item import Operator
from tests.support.admin_in_process import AdminInProcess

METADATA = MetaData()
TABLES = define_ledger_tables(METADATA)
ORIGIN = "shop.example/ca"
KEY = Ed25519PrivateKey.from_private_bytes(b"\x0b" * 32)
OTHER_KEY = Ed25519PrivateKey.from_private_bytes(b"\x0c" * 32)
OPERATOR = Operator(uid=0, name="root")
# Small entries, more than a page has; then large ones, of which few fit into a message; then a partial tile.
SMALL, LARGE, SIZE = MAX_ENTRIES + 100, 60_000, 40 * 256 + 77
ENTRIES = [
    canonical({"act": f"{n:064x}", "at": n, "long": "x" * (LARGE if SMALL <= n < SMALL + 20 else n % 50)})
    for n in range(SIZE)
]
LAST_TILE = 40 * 256


class StoreAdmin(AdminInProcess):
    """An admin process over a store."""

    verbs: Mapping[str, Verb] = {}

    def __init__(self, socket_path: Path, *, service: str) -> None:
        assert (socket_path.name, service) == ("s", "ca")

    def answer(self, verb: str, arguments: dict[str, Any]) -> Any:
        return self.verbs[verb](OPERATOR, arguments)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ledger") / "store.sqlite"
    engine = open_for_writing(sqlite_url(path))
    METADATA.create_all(engine)
    store = LedgerStore(engine, TABLES)
    with engine.begin() as tx:
        appended = store.append(tx, ENTRIES, [None] * SIZE)
        store.store_note(tx, sign(Checkpoint.of(ORIGIN, appended.edge.frontier), ORIGIN, KEY))
    engine.dispose()
    return path


@pytest.fixture
def store(filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    public = tmp_path / "ca" / "public"
    public.mkdir(parents=True)
    (public / "ledger.vkey").write_text(str(verifier_key(ORIGIN, KEY, KeyType.LOG)))
    path = tmp_path / "store.sqlite"
    path.write_bytes(filled.read_bytes())
    url = sqlite_url(path)
    engine = open_for_writing(url)
    with engine.begin():  # its log's files are there from now on, as beside a recorder
        pass
    reading = open_for_reading(url)
    monkeypatch.setattr(StoreAdmin, "verbs", ledger_verbs(reading, TABLES, origin=ORIGIN))
    monkeypatch.setattr(audit, "AdminClient", StoreAdmin)
    monkeypatch.setenv("OSTIARY_HOME", str(tmp_path))
    yield engine
    reading.dispose()
    engine.dispose()


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What a verification that fails says."""
    assert run(["--json", "audit", "verify", *arguments]) == 1
    return str(json.loads(capsys.readouterr().err)["detail"])


def set_entry(tx: Connection, index: int, text: bytes, *, with_hash: bool = False) -> None:
    values = {"entry": text, "leaf_hash": leaf_hash(text)} if with_hash else {"entry": text}
    tx.execute(update(TABLES.entries).where(TABLES.entries.c.seq == index).values(values))


def set_tile(tx: Connection, level: int, index: int, hashes: bytes) -> None:
    tiles = TABLES.tiles
    tx.execute(update(tiles).where(tiles.c.level == level, tiles.c.tile == index).values(hashes=hashes))


def tile(tx: Connection, level: int, index: int) -> bytearray:
    tiles = TABLES.tiles
    query = select(tiles.c.hashes).where(tiles.c.level == level, tiles.c.tile == index)
    return bytearray(tx.execute(query).scalar_one())


def test_a_right_store_is_verified_whole(store: Engine, capsys: pytest.CaptureFixture[str]) -> None:
    with store.begin() as tx:
        assert tx.execute(select(func.count()).select_from(TABLES.tiles)).scalar_one() == 41
    assert sum(map(len, ENTRIES)) > 8 * MAX_ANSWER_BYTES
    assert run(["--json", "audit", "verify"]) == 0
    assert json.loads(capsys.readouterr().out)["entries"] == SIZE


@pytest.mark.parametrize("index", [0, 255, 256, 999, 1000, SMALL + 7, LAST_TILE, SIZE - 1])
def test_a_changed_entry(store: Engine, capsys: pytest.CaptureFixture[str], index: int) -> None:
    with store.begin() as tx:
        set_entry(tx, index, canonical({"act": "0", "at": index}))
    assert said(capsys) == f"the entry {index} is not the one that was recorded"


def test_an_entry_that_is_no_text(store: Engine, capsys: pytest.CaptureFixture[str]) -> None:
    with store.begin() as tx:
        set_entry(tx, 300, b"\xff")
    assert said(capsys) == "the entry 300 is not the one that was recorded"


@pytest.mark.parametrize("index", [0, 999, SMALL + 7, LAST_TILE - 1])
def test_a_missing_entry(store: Engine, capsys: pytest.CaptureFixture[str], index: int) -> None:
    with store.begin() as tx:
        tx.execute(delete(TABLES.entries).where(TABLES.entries.c.seq == index))
    assert said(capsys) == f"the entry {index} is not the one that was recorded"


def test_missing_last_entries(store: Engine, capsys: pytest.CaptureFixture[str]) -> None:
    with store.begin() as tx:
        tx.execute(delete(TABLES.entries).where(TABLES.entries.c.seq >= LAST_TILE - 5))
    expected = f"the entry {LAST_TILE - 5} is missing; the checkpoint has {SIZE}"
    assert said(capsys) == expected


@pytest.mark.parametrize("index", [3, 255, 998, 2500, LAST_TILE - 1])
def test_two_entries_in_the_other_order(
    store: Engine, capsys: pytest.CaptureFixture[str], index: int
) -> None:
    with store.begin() as tx:
        set_entry(tx, index, ENTRIES[index + 1])
        set_entry(tx, index + 1, ENTRIES[index])
    assert said(capsys) == f"the entry {index} is not the one that was recorded"


@pytest.mark.parametrize("index", [0, 31, 32, 39])
def test_a_changed_tile(store: Engine, capsys: pytest.CaptureFixture[str], index: int) -> None:
    with store.begin() as tx:
        hashes = tile(tx, 0, index)
        hashes[7 * 32] ^= 1
        set_tile(tx, 0, index, bytes(hashes))
    at = index * 256 + 7
    assert said(capsys) == f"all entries are right, but the hashes stored from entry {at} on are damaged"


@pytest.mark.parametrize("index", [0, 32])
def test_a_tile_that_was_cut_off(store: Engine, capsys: pytest.CaptureFixture[str], index: int) -> None:
    with store.begin() as tx:
        set_tile(tx, 0, index, bytes(tile(tx, 0, index)[:-32]))
    at = index * 256
    assert said(capsys) == f"all entries are right, but the hashes stored from entry {at} on are damaged"


def test_an_entry_changed_together_with_its_tile(store: Engine, capsys: pytest.CaptureFixture[str]) -> None:
    text = canonical({"act": "0", "at": 5 * 256 + 9})
    with store.begin() as tx:
        set_entry(tx, 5 * 256 + 9, text, with_hash=True)
        hashes = tile(tx, 0, 5)
        hashes[9 * 32 : 10 * 32] = leaf_hash(text)
        set_tile(tx, 0, 5, bytes(hashes))
    expected = f"the entries 1280 to 1535 do not lead to the root of the checkpoint at {SIZE}"
    assert said(capsys) == expected


def test_a_ledger_that_was_rewritten_throughout(store: Engine, capsys: pytest.CaptureFixture[str]) -> None:
    text = canonical({"act": "0", "at": 100})
    forged = MemoryLog([*ENTRIES[:100], text, *ENTRIES[101:]])
    with store.begin() as tx:
        set_entry(tx, 100, text, with_hash=True)
        for (level, index), hashes in forged.rows.items():
            set_tile(tx, level, index, hashes)
    expected = f"the entries 0 to {SIZE - 1} do not lead to the root of the checkpoint at {SIZE}"
    assert said(capsys) == expected


def _by_another_key(checkpoint: Checkpoint) -> bytes:
    return sign(checkpoint, ORIGIN, OTHER_KEY)


def _of_another_tree(checkpoint: Checkpoint) -> bytes:
    right = sign(checkpoint, ORIGIN, KEY)
    return right.replace(f"\n{SIZE}\n".encode(), f"\n{SIZE - 1}\n".encode(), 1)


@pytest.mark.parametrize("forge", [_by_another_key, _of_another_tree])
def test_a_note_that_the_ledgers_key_did_not_sign(
    store: Engine, capsys: pytest.CaptureFixture[str], forge: Callable[[Checkpoint], bytes]
) -> None:
    with store.begin() as tx:
        right = Checkpoint.of(ORIGIN, MemoryLog(ENTRIES).frontier)
        tx.execute(update(TABLES.head).values(note=forge(right)))
    assert "sign" in said(capsys)


def test_a_fault_before_since_is_one_of_the_tree_that_was_signed(
    store: Engine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    note = sign(Checkpoint.of(ORIGIN, MemoryLog(ENTRIES[:1500]).frontier), ORIGIN, KEY)
    (tmp_path / "since").write_bytes(note)
    assert run(["--json", "audit", "verify", "--since", str(tmp_path / "since")]) == 0
    assert json.loads(capsys.readouterr().out)["entries"] == SIZE - 1500
    with store.begin() as tx:
        hashes = tile(tx, 1, 0)
        hashes[0] ^= 1
        set_tile(tx, 1, 0, bytes(hashes))
    expected = "the log no longer has the tree of 1500 entries that was signed"
    assert said(capsys, "--since", str(tmp_path / "since")) == expected
