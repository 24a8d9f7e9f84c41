"""What a credentials service's recorder decides: one function per kind of act, over rows in memory.

Rules:
- A use is decided on what the front decided on: the credential's version, the active module, the active
  policy. What changed in between is denied with a rule that tells the front to read again (`stale-*`).
- A put and an approval become true when the keyholder has done its part (`settle`); until then the old
  version serves.
- Every change of a credential takes a version of its name, and none is stored twice: what was decided on one
  can't meet another (docs/adr/0015).
- A digest in an item is that of the bytes beside it: what the ledger names is what is stored.

Pure: rows and an item in, a verdict out. The rows are changed in place, so that later items of the batch see
the change.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from credsvc.items import (
    ApproveModule,
    DeleteCredential,
    DisableCredential,
    ProposeModule,
    PutCredential,
    SetPolicy,
    Use,
)
from credsvc.store.rows import ModuleKey, ModuleRow, Rows
from ostiary.work.entry import AUTHORIZED, Verdict
from ostiary.work.item import Item
from ostiary.work.reports import Alarm, Refusals, Refuse

Decided = tuple[Verdict, bytes | None]
"""The verdict, and what rides beside the item to the keyholder (None: it has no part)."""


def decide_item(rows: Rows, item: Item) -> Decided:
    """Rule on one item."""
    return _DECISIONS[type(item)](rows, item)


def _deny(rule: str, reason: str) -> Decided:
    return Verdict("denied", rule, reason), None


def _decide_use(rows: Rows, item: Use) -> Decided:
    """Whether all four that the front decided on still stand; the sealed credential then rides along."""
    # 1. The credential is there and enabled.
    credential = rows.credentials.get(item.credential)
    if credential is None or credential.sealed is None:
        return _deny("credential-unknown", f"there is no credential '{item.credential}'")
    if credential.disabled:
        return _deny("credential-disabled", f"the credential '{item.credential}' is disabled")
    # 2. The credential's own module is active, in the version whose code filled the holes. The item's word
    #    for the module is only compared: a front that lies chooses nothing by it.
    module = rows.active_module(credential.module)
    if module is None or module.key != (item.module, item.module_digest, item.manifest_digest):
        return _deny("stale-module", f"the module '{item.module}' was replaced meanwhile: try again")
    # 3. Its version is the one that ceiling, labels and public fields were taken from.
    if credential.version != item.version:
        return _deny(
            "stale-credential", f"the credential '{item.credential}' was rotated meanwhile: try again"
        )
    # 4. The policies are those that granted it.
    if rows.policy_digest != item.policy_digest:
        return _deny("stale-policy", "the policies were replaced meanwhile: try again")
    return AUTHORIZED, credential.sealed


def _decide_put(rows: Rows, item: PutCredential) -> Decided:
    current = rows.credentials.get(item.credential)
    version = current.version if current else 0
    if item.credential in rows.putting:
        return _deny("stale-credential", f"version {version + 1} of '{item.credential}' is already being put")
    if item.version != version + 1:
        return _deny(
            "stale-credential", f"'{item.credential}' has version {version}, so the next is {version + 1}"
        )
    if current is not None and current.sealed is not None and current.module != item.module:
        return _deny("credential-module", f"'{item.credential}' belongs to the module '{current.module}'")
    module = rows.active_module(item.module)
    if module is None or module.manifest_digest != item.manifest_digest:
        return _deny("module-not-active", f"no approved module '{item.module}' with this manifest")
    rows.putting.add(item.credential)
    # No attachment, but a part for the keyholder: it seals what the item carries.
    return AUTHORIZED, b""


def _decide_disable(rows: Rows, item: DisableCredential) -> Decided:
    credential = rows.credentials.get(item.credential)
    if credential is None or credential.sealed is None:
        return _deny("credential-unknown", f"there is no credential '{item.credential}'")
    rows.credentials[item.credential] = replace(credential, disabled=True, version=credential.version + 1)
    return AUTHORIZED, None


def _decide_delete(rows: Rows, item: DeleteCredential) -> Decided:
    credential = rows.credentials.get(item.credential)
    if credential is None or credential.sealed is None:
        return _deny("credential-unknown", f"there is no credential '{item.credential}'")
    # The name stays with the version of its end, so that no version of it is given twice.
    rows.credentials[item.credential] = replace(credential, sealed=None, version=credential.version + 1)
    return AUTHORIZED, None


def _decide_propose(rows: Rows, item: ProposeModule) -> Decided:
    key = ModuleKey(item.module, item.module_digest, item.manifest_digest)
    if key[1:] != (_sha256(item.source), _sha256(item.manifest)):
        return _deny(
            "module-digest", f"the digests are not those of the code and manifest of '{item.module}'"
        )
    if key in rows.modules:
        return _deny("module-known", f"this version of '{item.module}' is {rows.modules[key].state} already")
    rows.modules[key] = ModuleRow(
        name=item.module,
        module_digest=item.module_digest,
        manifest_digest=item.manifest_digest,
        manifest=item.manifest,
        state="proposed",
    )
    return AUTHORIZED, None


def _decide_approve(rows: Rows, item: ApproveModule) -> Decided:
    module = rows.modules.get(ModuleKey(item.module, item.module_digest, item.manifest_digest))
    if module is None:
        return _deny("module-unknown", f"no version of '{item.module}' with these digests was proposed")
    if module.state == "active":
        return _deny("module-active", f"this version of '{item.module}' is active already")
    # The keyholder verifies the approver's signature and checks the manifest by itself: here the approval is
    # only in order.
    return AUTHORIZED, module.manifest


def _decide_policy(rows: Rows, item: SetPolicy) -> Decided:
    if item.policy_digest != _sha256(item.policy.encode()):
        return _deny("policy-digest", "the digest is not that of the policies")
    rows.policy_digest = item.policy_digest
    return AUTHORIZED, None


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


_DECISIONS: dict[type[Item], Callable[[Rows, Any], Decided]] = {
    Use: _decide_use,
    Refuse: lambda _, item: _deny(item.rule, item.reason),
    Refusals: lambda _rows, _item: (AUTHORIZED, None),
    Alarm: lambda _rows, _item: (AUTHORIZED, None),
    PutCredential: _decide_put,
    DisableCredential: _decide_disable,
    DeleteCredential: _decide_delete,
    ProposeModule: _decide_propose,
    ApproveModule: _decide_approve,
    SetPolicy: _decide_policy,
}
