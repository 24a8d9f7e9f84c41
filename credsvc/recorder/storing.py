"""A batch's rows from the store and back: at most three SELECTs by key before the decisions, one statement
per changed row after them.

Rules:
- Every change of a credential takes a version of its name, and none is stored twice: what was decided on one
  version can't meet another.
- A sealed credential comes later than the decision to put it (`store_sealed`), and gives way to whatever was
  recorded in between.
- The transaction and its lock are the recorder's.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

from sqlalchemy import BindParameter, Connection, bindparam, insert, select, update

from credsvc.items import (
    ApproveModule,
    DeleteCredential,
    DisableCredential,
    ProposeModule,
    PutCredential,
    SetPolicy,
)
from credsvc.store.rows import CredentialRow, ModuleRow, Rows
from credsvc.store.tables import ACTIVES, CREDENTIALS, MODULES, POLICIES
from ostiary.keyholder.protocol import Document
from ostiary.store.statement import Statement
from ostiary.work.item import Item, RawItem
from ostiary.work.item_encoding import encode_item

_NAMES: BindParameter[str] = bindparam("names", expanding=True)
_C, _M = CREDENTIALS.c, MODULES.c
# What every use executes.
_CREDENTIALS: Final = Statement(
    select(_C.name, _C.version, _C.module, _C.disabled, _C.sealed).where(_C.name.in_(_NAMES))
)
_MODULES: Final = Statement(
    select(_M.name, _M.module_digest, _M.manifest_digest, _M.manifest, _M.state).where(_M.name.in_(_NAMES))
)
_POLICY: Final = Statement(select(ACTIVES.c.digest).where(ACTIVES.c.what == "policy"))

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


def load(tx: Connection, items: Sequence[Item]) -> Rows:
    """Read what these items concern."""
    # Items that concern a credential or a module name it in a field of that name.
    names = _named(items, "credential")
    module_names = _named(items, "module")
    found = (
        [CredentialRow(**each) for each in _CREDENTIALS.fetch(tx, {"names": list(names)})] if names else []
    )
    # A credential's own module too: the item may name another one, and that must not decide.
    module_names |= {row.module for row in found}
    of_names = _MODULES.fetch(tx, {"names": list(module_names)}) if module_names else []
    versions = [ModuleRow(**each) for each in of_names]
    policy = _POLICY.fetch(tx, {})
    return Rows(
        credentials={row.name: row for row in found},
        modules={row.key: row for row in versions},
        policy_digest=policy[0]["digest"] if policy else None,
    )


def _named(items: Sequence[Item], field: str) -> set[str]:
    found = (getattr(item, field, None) for item in items)
    return {name for name in found if name is not None}


def store(tx: Connection, item: Item, *, now_ms: int) -> None:
    """Write what an authorized item changes at once; puts and approvals wait for the keyholder."""
    match item:
        case DisableCredential():
            _change_credential(tx, item.credential, now_ms, disabled=True)
        case DeleteCredential():
            _change_credential(tx, item.credential, now_ms, **_NOTHING)
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
            _store_policy(tx, item, now_ms)
        case _:
            pass


def _change_credential(tx: Connection, credential: str, now_ms: int, **values: object) -> None:
    """Change a credential under a version of its own, so that a put on its way comes too late
    (`store_sealed`).
    """
    version = CREDENTIALS.c.version + 1
    changed = update(CREDENTIALS).where(CREDENTIALS.c.name == credential)
    tx.execute(changed.values(version=version, changed_at_ms=now_ms, **values))


def _store_policy(tx: Connection, item: SetPolicy, now_ms: int) -> None:
    # The same text may be set again after another: it is kept once, under its digest.
    known = tx.execute(select(POLICIES.c.digest).where(POLICIES.c.digest == item.policy_digest)).first()
    if known is None:
        text = item.policy.encode()
        tx.execute(insert(POLICIES).values(digest=item.policy_digest, text=text, changed_at_ms=now_ms))
    changed = tx.execute(update(ACTIVES).where(ACTIVES.c.what == "policy").values(digest=item.policy_digest))
    if changed.rowcount == 0:
        tx.execute(insert(ACTIVES).values(what="policy", digest=item.policy_digest))


def store_sealed(tx: Connection, item: PutCredential, sealed: bytes, *, now_ms: int) -> None:
    """Store the version that the keyholder sealed, unless something overtook it."""
    values = {
        "version": item.version,
        "module": item.module,
        "owner": item.owner,
        "labels": list(item.labels),
        "shareable": item.shareable,
        "ceiling": {name: list(patterns) for name, patterns in item.ceiling.items()},
        "disabled": False,
        "sealed": sealed,
        "changed_at_ms": now_ms,
    }
    named = CREDENTIALS.c.name == item.credential
    # The condition on the version is what decides: it holds only if nothing was recorded since the put.
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


def activate(tx: Connection, item: ApproveModule) -> None:
    """Make an approved version the active one; the version that was active retires in the same
    transaction, so a module never has two.
    """
    named = MODULES.c.name == item.module
    tx.execute(update(MODULES).where(named, MODULES.c.state == "active").values(state="retired"))
    version = (
        named,
        MODULES.c.module_digest == item.module_digest,
        MODULES.c.manifest_digest == item.manifest_digest,
    )
    # The item itself is kept: a keyholder that starts again verifies the approver's signature in it anew.
    tx.execute(update(MODULES).where(*version).values(state="active", approval=encode_item(item)))


def active_documents(tx: Connection) -> list[Document]:
    """The active modules' manifests with their approvals."""
    query = select(MODULES.c.approval, MODULES.c.manifest).where(MODULES.c.state == "active")
    return [
        Document(approval=RawItem(approval), manifest=manifest) for approval, manifest in tx.execute(query)
    ]
