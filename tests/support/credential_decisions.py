"""Acts on a credentials service's store, right by default, and a recorder's part that decides them; tests
change one respect of an act.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from sqlalchemy import Connection, Engine

from credsvc.home import MIGRATIONS
from credsvc.items import ApproveModule, ProposeModule, PutCredential, SetPolicy, Use
from credsvc.recorder.recording import CredentialRecording
from ostiary.recorder.batch import ask
from ostiary.recorder.service import Ruling, Settled
from ostiary.store.database import open_for_writing, sqlite_url
from ostiary.store.migrate import upgrade
from ostiary.work.item import Item, Operator, Peer

OPERATOR = Operator(uid=0, name="root")
PEER = Peer(serial="0a", subsystem="component", node="n1.nodes.shop.example", agent="a1")
NOW_MS = 1_800_000_000_000
RECORDING = CredentialRecording("shop.example")

M1, F1, P1 = (hashlib.sha256(content).hexdigest() for content in (b"code", b"manifest", b""))
M2, F2 = (hashlib.sha256(content).hexdigest() for content in (b"other", b"second"))

PROPOSE = ProposeModule(
    operator=OPERATOR,
    module="gogrid",
    module_digest=M1,
    manifest_digest=F1,
    manifest=b"manifest",
    source=b"code",
)
APPROVE = ApproveModule(
    operator=OPERATOR,
    module="gogrid",
    module_digest=M1,
    manifest_digest=F1,
    approved_at=1,
    signature=b"\x01" * 64,
)
PUT = PutCredential(
    operator=OPERATOR,
    credential="grid",
    version=1,
    module="gogrid",
    manifest_digest=F1,
    owner="component",
    labels=("billing",),
    shareable={"api_key": "foo"},
    ceiling={"host": ("api.gogrid.com",)},
    envelopes={"shared_secret": b"sealed by the client"},
)
POLICY = SetPolicy(operator=OPERATOR, policy_digest=P1, policy="")
USE = Use(
    peer=PEER,
    credential="grid",
    version=1,
    operation="sign",
    module="gogrid",
    module_digest=M1,
    manifest_digest=F1,
    formula="query",
    holes={"t": 1},
    salt=b"\x02" * 16,
    rule="r1",
    policy_digest=P1,
)
SEALED = b"sealed by the keyholder"


def store_at(folder: Path) -> Engine:
    """An empty store with its tables; the caller disposes of it."""
    engine = open_for_writing(sqlite_url(folder / "store.sqlite"))
    upgrade(engine, migrations=MIGRATIONS)
    return engine


def decide(tx: Connection, *items: Item) -> list[Ruling]:
    """Have one batch decided."""
    return RECORDING.decide(tx, [ask(item) for item in items], now_ms=NOW_MS)


def settle(tx: Connection, item: Item, output: bytes = b"") -> None:
    """The keyholder has done its part of one item."""
    RECORDING.settle(tx, [Settled(item=item, index=0, output=output)])


def rules(rulings: list[Ruling]) -> list[str]:
    """By which rule each was denied, or `authorized`."""
    return [ruling.verdict.rule or "authorized" for ruling in rulings]


def make_ready(tx: Connection) -> None:
    """An approved module, a policy and a sealed credential."""
    assert rules(decide(tx, PROPOSE, APPROVE, POLICY)) == ["authorized"] * 3
    settle(tx, APPROVE)
    assert rules(decide(tx, PUT)) == ["authorized"]
    settle(tx, PUT, SEALED)
