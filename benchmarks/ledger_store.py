"""A ledger in a store, as large as one likes, with the admin process that shows it: for benchmarks of what
reads one.

    python -m benchmarks.ledger_store HOME      serves the store of HOME until it is killed
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import MetaData

from ostiary.admin.ledger_verbs import ledger_verbs
from ostiary.admin.server import serve_verbs
from ostiary.edge.home import ServiceHome
from ostiary.edge.hub import Hub
from ostiary.ledger.canonical import JSON, canonical
from ostiary.ledger.checkpoint import Checkpoint, KeyType, sign, verifier_key
from ostiary.recorder.ledger_store import LedgerStore
from ostiary.store.database import open_for_reading, open_for_writing, sqlite_url
from ostiary.store.ledger_tables import define_ledger_tables

ORIGIN: Final = "bench.example/ca"
_KEY: Final = Ed25519PrivateKey.from_private_bytes(bytes(32))
_METADATA: Final = MetaData()
_TABLES: Final = define_ledger_tables(_METADATA)
_TURN: Final = 5000


def issuance(number: int) -> bytes:
    """Return an entry as large as that of an agent's certificate: 807 bytes, with five terms."""
    node, agent = f"n{number % 1000:03}.nodes.shop.example", f"00000000-0000-4000-8000-{number:012}"
    certificate: dict[str, JSON] = {
        "agent": agent,
        "capabilities": ["credential:use"],
        "endpoints": [],
        "node": node,
        "not_after": 1_795_842_970,
        "not_before": 1_795_835_710,
        "serial": f"{number:040x}",
        "spki": f"{number:064x}",
        "subsystem": "component-harness",
        "tbs": f"{number:064x}",
    }
    return canonical(
        {
            "act": f"{number:064x}",
            "asked": ["credential:use"],
            "at": 1_795_835_770_000 + number,
            "by": {
                "agent": f"00000000-0000-4000-9000-{number % 1000:012}",
                "node": node,
                "serial": f"{number % 1000:040x}",
                "subsystem": "certificate-manager",
            },
            "certificate": certificate,
            "decision": "authorized",
            "kind": "spawn",
            "parent": f"{number % 1000:040x}",
        }
    )


def fill(home: Path, size: int) -> None:
    """Make a store of `size` entries and its public key in a service's home."""
    engine = open_for_writing(sqlite_url(home / "store.sqlite"))
    with engine.begin() as tx:
        _METADATA.create_all(tx)
    store = LedgerStore(engine, _TABLES)
    for first in range(0, size, _TURN):
        entries = [issuance(number) for number in range(first, min(size, first + _TURN))]
        with engine.begin() as tx:
            store.lock(tx)
            appended = store.append(tx, entries, [None] * len(entries))
            store.store_note(tx, sign(Checkpoint.of(ORIGIN, appended.edge.frontier), ORIGIN, _KEY))
        store.advance(appended)
    engine.dispose()
    public = ServiceHome(home).public
    public.mkdir(parents=True)
    (public / "ledger.vkey").write_text(str(verifier_key(ORIGIN, _KEY, KeyType.LOG)))


@contextmanager
def served(home: Path) -> Iterator[None]:
    """Run the admin process of a filled home."""
    command = [sys.executable, "-m", "benchmarks.ledger_store", str(home)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            if process.stdout is None or process.stdout.readline() != "ready\n":
                raise RuntimeError("the admin process did not start")
            yield
        finally:
            process.terminate()


def main() -> None:
    """Serve a home's ledger."""
    home = Path(sys.argv[1])
    socket = ServiceHome(home).operator_socket
    socket.parent.mkdir(parents=True, exist_ok=True)
    url = sqlite_url(home / "store.sqlite")
    hub = Hub()
    hub.listen(socket, channel="operator", allowed_uids=frozenset({home.stat().st_uid}))
    # A reader may not make the files of the write-ahead log: somebody who writes must have it open.
    with open_for_writing(url).connect():
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        serve_verbs(hub, ledger_verbs(open_for_reading(url), _TABLES, origin=ORIGIN))


if __name__ == "__main__":
    main()
