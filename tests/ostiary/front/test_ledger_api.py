"""A ledger read over HTTP: tiles hash to the signed root, entries to their leaves, and nothing unsigned is
served.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import falcon.asgi
import falcon.testing
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import MetaData

from ostiary.errors import Forbidden
from ostiary.front.http import create_app
from ostiary.front.ledger_api import add_ledger_routes
from ostiary.front.offload import Offload
from ostiary.ledger.canonical import canonical
from ostiary.ledger.checkpoint import Checkpoint, read_checkpoint, sign
from ostiary.ledger.tiles import decode_bundle
from ostiary.ledger.tree import Frontier, leaf_hash
from ostiary.recorder.ledger_store import LedgerStore
from ostiary.store.database import open_for_reading, open_for_writing, sqlite_url
from ostiary.store.ledger_tables import define_ledger_tables

ORIGIN = "shop.example/ca"
KEY = Ed25519PrivateKey.from_private_bytes(b"\x07" * 32)
SIGNED, UNSIGNED = 300, 10
ENTRIES = [canonical({"act": f"{number:064x}", "at": number}) for number in range(SIGNED + UNSIGNED)]


@pytest.fixture
def client(tmp_path: Path) -> Iterator[falcon.testing.TestClient]:
    """300 entries under a signed checkpoint, ten more that are not signed yet; `Reader: yes` may read
    entries.
    """
    metadata, url = MetaData(), sqlite_url(tmp_path / "store.sqlite")
    tables = define_ledger_tables(metadata)
    engine = open_for_writing(url)
    metadata.create_all(engine)
    store = LedgerStore(engine, tables)
    root = Frontier().extend([leaf_hash(entry) for entry in ENTRIES[:SIGNED]]).root()
    note = sign(Checkpoint(origin=ORIGIN, size=SIGNED, root=root), ORIGIN, KEY)
    with engine.begin() as tx:
        store.lock(tx)
        appended = store.append(tx, ENTRIES, [b""] * len(ENTRIES))
        store.store_note(tx, note)
    store.advance(appended)

    async def admit(req: falcon.asgi.Request, entries: bool) -> None:
        if entries and req.get_header("Reader") is None:
            raise Forbidden("no ledger:read", rule="capability-ledger:read")

    reading = open_for_reading(url)
    app = create_app(audience="network")
    offload = Offload(threads=1)
    add_ledger_routes(app, "/v1/ledger", engine=reading, tables=tables, admit=admit, offload=offload)
    yield falcon.testing.TestClient(app)
    offload.close()
    reading.dispose()
    engine.dispose()


def get(client: falcon.testing.TestClient, path: str) -> falcon.testing.Result:
    return client.simulate_get(f"/v1/ledger/{path}", headers={"Reader": "yes"})


def test_the_tiles_hash_to_the_signed_root(client: falcon.testing.TestClient) -> None:
    checkpoint = read_checkpoint(get(client, "checkpoint").content)
    assert (checkpoint.origin, checkpoint.size) == (ORIGIN, SIGNED)
    full, partial = get(client, "tile/0/000"), get(client, f"tile/0/001.p/{SIGNED - 256}")
    hashes = full.content + partial.content
    leaves = [hashes[start : start + 32] for start in range(0, len(hashes), 32)]
    assert Frontier().extend(leaves).root() == checkpoint.root
    assert "immutable" in full.headers["cache-control"]
    assert partial.headers["cache-control"] == "no-store"
    assert len(get(client, "tile/1/000.p/1").content) == 32


def test_entries_are_those_of_the_leaves(client: falcon.testing.TestClient) -> None:
    for path in ("entries/000", "tile/entries/000"):
        assert decode_bundle(get(client, path).content, width=256) == ENTRIES[:256]
    assert decode_bundle(get(client, "entries/001.p/44").content, width=44) == ENTRIES[256:300]


@pytest.mark.parametrize(
    "path", ["tile/0/001.p/45", "tile/0/001", "entries/001.p/45", "tile/2/000", "tile/0/x001/000"]
)
def test_what_is_not_signed_is_not_there(client: falcon.testing.TestClient, path: str) -> None:
    assert get(client, path).status_code == 404


@pytest.mark.parametrize(
    "path", ["tile/0/1", "tile/0/000.p/256", "tile/64/000", "tile/0/000/", "entries/-01"]
)
def test_another_spelling_of_a_path_is_named(client: falcon.testing.TestClient, path: str) -> None:
    result = get(client, path)
    assert result.status_code in {400, 404}
    assert result.headers["content-type"] == "application/problem+json"
    assert result.status_code == 404 or result.json["field"] in {"path", "level"}


@pytest.mark.parametrize("path", ["entries/000", "tile/entries/000"])
def test_entries_want_a_reader_and_hashes_do_not(client: falcon.testing.TestClient, path: str) -> None:
    refused = client.simulate_get(f"/v1/ledger/{path}")
    assert (refused.status_code, refused.json["rule"]) == (403, "capability-ledger:read")
    assert client.simulate_get("/v1/ledger/tile/0/000").status_code == 200
