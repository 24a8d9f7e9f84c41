"""The credentials service's part in the recorder: read rows for a batch, fold the decisions, write what
changed.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Final

from sqlalchemy import Connection, insert, select, update

from credsvc.items import (
    ADMIN,
    FRONT,
    INTERNAL,
    ApproveModule,
    DeleteCredential,
    DisableCredential,
    ProposeModule,
    PutCredential,
    SetPolicy,
    Use,
)
from credsvc.recorder.decide import concerned, decide
from credsvc.store.rows import Rows, read_rows
from credsvc.store.tables import ACTIVES, CREDENTIALS, MODULES, POLICIES
from ostiary.keyholder.protocol import Document
from ostiary.recorder.service import Asked, Ruling, Settled
from ostiary.work.item import Item, ItemDecoder, RawItem, encode_item

_NOTHING: Final[dict[str, object]] = {
    "owner": "",
    "labels": [],
    "shareable": {},
    "ceiling": {},
    "disabled": False,
    "sealed": None,
}
"""What is kept of a deleted credential besides its name and the version of its end."""
_log = logging.getLogger("ostiary.recorder")


class CredentialRecording:
    """Implements ostiary.recorder.service.Service."""

    lists: Mapping[str, tuple[type[Item], ...]] = {"front": FRONT, "admin": ADMIN}
    settled_first: tuple[type[Item], ...] = (PutCredential, ApproveModule)

    def __init__(self, application: str) -> None:
        self.origin = f"{application}/credentials"
        # Some acts are on both lists (an item of each kind is decoded by its tag, so each kind stands once).
        self.decoder = ItemDecoder(tuple(dict.fromkeys((*FRONT, *ADMIN, *INTERNAL))))

    def decide(self, tx: Connection, asked: Sequence[Asked], *, now_ms: int) -> list[Ruling]:
        """Rule on a batch; see ostiary.recorder.service."""
        names = [concerned(one.item) for one in asked]
        rows = read_rows(
            tx,
            credentials=(c for c, _ in names if c is not None),
            modules=(m for _, m in names if m is not None),
        )
        return [self._rule(tx, rows, position, one, now_ms) for position, one in enumerate(asked)]

    def _rule(self, tx: Connection, rows: Rows, position: int, asked: Asked, now_ms: int) -> Ruling:
        item = asked.item
        verdict, attachment = decide(rows, item)
        if verdict.decision == "authorized":
            _write(tx, item, now_ms)
        salt = item.salt if isinstance(item, Use) else b""
        # What the recorder asks of itself (an alarm) has nobody who waits for it.
        answers = None if isinstance(item, INTERNAL) else position
        return Ruling(
            item=item, raw=asked.raw, verdict=verdict, answers=answers, attachment=attachment, salt=salt
        )

    def settle(self, tx: Connection, settled: Sequence[Settled]) -> None:
        """Store sealed credentials and approvals; a use leaves nothing but its entry."""
        for done in settled:
            match done.item:
                case PutCredential():
                    _store_sealed(tx, done.item, done.output)
                case ApproveModule():
                    _activate(tx, done.item)
                case _:
                    pass

    def due(self, tx: Connection, *, now_ms: int) -> list[Item]:  # noqa: ARG002 - the port
        """Nothing here depends on time alone."""
        return []

    def documents(self, tx: Connection) -> list[Document]:
        """The active modules' manifests with their approvals."""
        query = select(MODULES.c.approval, MODULES.c.manifest).where(MODULES.c.state == "active")
        return [
            Document(approval=RawItem(approval), manifest=manifest)
            for approval, manifest in tx.execute(query)
        ]


def _write(tx: Connection, item: Item, now_ms: int) -> None:
    match item:
        case DisableCredential():
            _change(tx, item.credential, now_ms, disabled=True)
        case DeleteCredential():
            _change(tx, item.credential, now_ms, **_NOTHING)
        case ProposeModule():
            tx.execute(
                insert(MODULES).values(
                    name=item.module,
                    module_digest=item.module_digest,
                    manifest_digest=item.manifest_digest,
                    manifest=item.manifest,
                    source=item.source,
                    state="proposed",
                    changed_at_ms=now_ms,
                )
            )
        case SetPolicy():
            _set_policy(tx, item, now_ms)
        case _:
            pass


def _change(tx: Connection, credential: str, now_ms: int, **values: object) -> None:
    """Change a credential as it stands, under a version of its own: a put that is on its way comes too late
    (`_store_sealed`).
    """
    version = CREDENTIALS.c.version + 1
    changed = update(CREDENTIALS).where(CREDENTIALS.c.name == credential)
    tx.execute(changed.values(version=version, changed_at_ms=now_ms, **values))


def _set_policy(tx: Connection, item: SetPolicy, now_ms: int) -> None:
    known = tx.execute(select(POLICIES.c.digest).where(POLICIES.c.digest == item.policy_digest)).first()
    if known is None:
        text = item.policy.encode()
        tx.execute(insert(POLICIES).values(digest=item.policy_digest, text=text, changed_at_ms=now_ms))
    _set_active(tx, "policy", item.policy_digest)


def _set_active(tx: Connection, what: str, digest: str) -> None:
    changed = tx.execute(update(ACTIVES).where(ACTIVES.c.what == what).values(digest=digest))
    if changed.rowcount == 0:
        tx.execute(insert(ACTIVES).values(what=what, digest=digest))


def _store_sealed(tx: Connection, item: PutCredential, sealed: bytes) -> None:
    values = {
        "version": item.version,
        "module": item.module,
        "owner": item.owner,
        "labels": list(item.labels),
        "shareable": item.shareable,
        "ceiling": {name: list(patterns) for name, patterns in item.ceiling.items()},
        "disabled": False,
        "sealed": sealed,
        "changed_at_ms": time.time_ns() // 1_000_000,
    }
    named = CREDENTIALS.c.name == item.credential
    changed = tx.execute(
        update(CREDENTIALS).where(named, CREDENTIALS.c.version == item.version - 1).values(**values)
    )
    if changed.rowcount:
        return
    if item.version == 1 and tx.execute(select(CREDENTIALS.c.name).where(named)).first() is None:
        tx.execute(insert(CREDENTIALS).values(name=item.credential, **values))
        return
    # Disabled, deleted or put again while the keyholder sealed this version: the ledger has the later act
    # behind it, and so has the store.
    _log.error("credential-put-overtaken", extra={"credential": item.credential, "version": item.version})


def _activate(tx: Connection, item: ApproveModule) -> None:
    tx.execute(
        update(MODULES)
        .where(MODULES.c.name == item.module, MODULES.c.state == "active")
        .values(state="retired")
    )
    tx.execute(
        update(MODULES)
        .where(
            MODULES.c.name == item.module,
            MODULES.c.module_digest == item.module_digest,
            MODULES.c.manifest_digest == item.manifest_digest,
        )
        .values(state="active", approval=encode_item(item))
    )
