"""The operators' verbs over credential modules: `module.propose .approve .list .show`.

Rules:
- A module is checked by machine when it is proposed, for a good error now; the keyholder checks again when it
  is approved.
- A module whose activation would invalidate the active policies is not approved.
- Approval needs a signature by the approver key; this process holds none and can make none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec
from sqlalchemy import Engine, select

from credsvc.admin.active import active_manifests, active_policy
from credsvc.formula.approvable import check_approvable
from credsvc.formula.manifest_toml import parse_manifest
from credsvc.items import ApproveModule, ProposeModule
from credsvc.policy.cedar import PolicySet
from credsvc.policy.schema import build_schema
from credsvc.store.tables import MODULES
from ostiary.admin.server import Verb, arguments_of
from ostiary.errors import BadInput, NotFound
from ostiary.recorder.client import RecorderClient
from ostiary.work.item import Operator

Json = dict[str, Any]


class _Named(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str


class _Propose(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    manifest: bytes
    source: bytes


class _Approve(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    module_digest: str
    manifest_digest: str
    approved_at: int
    signature: bytes


def module_verbs(recorder: RecorderClient, engine: Engine) -> Mapping[str, Verb]:
    """The verbs by name; `engine` cannot write."""
    verbs = _ModuleVerbs(recorder, engine)
    return {
        "module.propose": verbs.propose_module,
        "module.approve": verbs.approve_module,
        "module.list": verbs.list_modules,
        "module.show": verbs.show_module,
    }


class _ModuleVerbs:
    def __init__(self, recorder: RecorderClient, engine: Engine) -> None:
        self._recorder = recorder
        self._engine = engine

    def propose_module(self, operator: Operator, arguments: Json) -> Json:
        proposed = arguments_of(arguments, _Propose)
        manifest = parse_manifest(proposed.manifest)
        check_approvable(manifest)
        _check_text(proposed.source)
        item = ProposeModule(
            operator=operator,
            module=manifest.name,
            module_digest=hashlib.sha256(proposed.source).hexdigest(),
            manifest_digest=manifest.digest,
            manifest=proposed.manifest,
            source=proposed.source,
        )
        entry = self._recorder.submit(item).index
        digests = {"module_digest": item.module_digest, "manifest_digest": item.manifest_digest}
        return {"name": manifest.name, **digests, "entry": entry}

    def approve_module(self, operator: Operator, arguments: Json) -> Json:
        approve = arguments_of(arguments, _Approve)
        self._check_policies_survive(approve)
        item = ApproveModule(
            operator=operator,
            module=approve.name,
            module_digest=approve.module_digest,
            manifest_digest=approve.manifest_digest,
            approved_at=approve.approved_at,
            signature=approve.signature,
        )
        return {"name": approve.name, "entry": self._recorder.submit(item).index}

    def _check_policies_survive(self, approve: _Approve) -> None:
        """Validate the active policies against the schema as it would be with this module."""
        query = select(MODULES.c.manifest).where(
            MODULES.c.name == approve.name, MODULES.c.manifest_digest == approve.manifest_digest
        )
        with self._engine.begin() as tx:
            manifest = tx.execute(query).scalars().first()
        if manifest is None:
            raise NotFound(f"no version of '{approve.name}' with this manifest was proposed")
        after = {**active_manifests(self._engine), approve.name: parse_manifest(manifest)}
        PolicySet(active_policy(self._engine), build_schema(after.values()))

    def list_modules(self, _operator: Operator, _arguments: Json) -> list[Json]:
        columns = (MODULES.c.name, MODULES.c.module_digest, MODULES.c.manifest_digest, MODULES.c.state)
        with self._engine.begin() as tx:
            query = select(*columns).order_by(MODULES.c.name, MODULES.c.changed_at_ms)
            return [dict(row) for row in tx.execute(query).mappings()]

    def show_module(self, _operator: Operator, arguments: Json) -> Json:
        name = arguments_of(arguments, _Named).name
        of_name = MODULES.c.name == name
        newest = select(MODULES).where(of_name).order_by(MODULES.c.changed_at_ms.desc())
        active = select(MODULES.c.module_digest).where(of_name, MODULES.c.state == "active")
        with self._engine.begin() as tx:
            row = tx.execute(newest).mappings().first()
            active_digest = tx.execute(active).scalar_one_or_none()
        if row is None:
            raise NotFound(f"there is no module '{name}'")
        shown = {key: row[key] for key in ("name", "module_digest", "manifest_digest", "state")}
        return {
            **shown,
            "active_module_digest": active_digest,
            "manifest": row["manifest"].decode(),
            "source": row["source"].decode(),
        }


def _check_text(source: bytes) -> None:
    """Refuse code that no front could decode: one active module that does not load stops the new ones too
    (`credsvc.front.catalog`).
    """
    try:
        source.decode()
    except UnicodeDecodeError as exc:
        raise BadInput("the module's code is not UTF-8", field="source") from exc
