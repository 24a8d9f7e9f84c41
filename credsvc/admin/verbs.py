"""The operators' verbs of a credentials service.

Rules:
- What changes something is a work item on the recorder's admin channel, with the operator's name in it; what
  only reads comes from the store.
- A module is checked by machine when it is proposed, for a good error now; the keyholder checks again when it
  is approved.
- A policy set is validated against the schema of the active modules; a module whose activation would
  invalidate the policies is not approved.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from sqlalchemy import Engine, select

from credsvc.config import Config
from credsvc.formula.approvable import check_approvable
from credsvc.formula.holes import check_ceiling_names
from credsvc.formula.manifest import Manifest
from credsvc.formula.manifest_toml import parse_manifest
from credsvc.items import (
    ApproveModule,
    DeleteCredential,
    DisableCredential,
    ProposeModule,
    PutCredential,
    SetPolicy,
)
from credsvc.names import parse_credential
from credsvc.policy.cedar import PolicySet
from credsvc.policy.schema import build_schema
from credsvc.store.tables import ACTIVES, CREDENTIALS, LEDGER, MODULES, POLICIES
from ostiary.admin.ledger_verbs import ledger_verbs
from ostiary.admin.server import Verb, arguments_of
from ostiary.errors import BadInput, NotFound
from ostiary.recorder.client import RecorderClient
from ostiary.work.item import Operator

Json = dict[str, Any]
_SHOWN: Final = ("name", "version", "module", "owner", "labels", "shareable", "ceiling", "disabled")
_CREDENTIALS: Final = select(*(CREDENTIALS.c[name] for name in _SHOWN)).where(
    CREDENTIALS.c.sealed.is_not(None)
)
"""What is in clear, without those that were deleted."""


class _Named(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str


class _Put(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    module: str
    owner: str
    shareable: dict[str, str]
    ceiling: dict[str, tuple[str, ...]]
    labels: tuple[str, ...]
    envelopes: dict[str, bytes]


class _Propose(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    manifest: bytes
    source: bytes


class _Approve(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    module_digest: str
    manifest_digest: str
    approved_at: int
    signature: bytes


class _Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    policy: str


def make_verbs(config: Config, recorder: RecorderClient, engine: Engine) -> Mapping[str, Verb]:
    """The verbs by name."""
    verbs = _Verbs(recorder, engine)
    return {
        "credential.put": verbs.put_credential,
        "credential.list": verbs.list_credentials,
        "credential.show": verbs.show_credential,
        "credential.disable": verbs.disable_credential,
        "credential.delete": verbs.delete_credential,
        "module.propose": verbs.propose_module,
        "module.approve": verbs.approve_module,
        "module.list": verbs.list_modules,
        "module.show": verbs.show_module,
        "policy.set": verbs.set_policy,
        "policy.show": verbs.show_policy,
        "policy.validate": verbs.validate_policy,
        **ledger_verbs(engine, LEDGER, origin=config.origin),
    }


class _Verbs:
    def __init__(self, recorder: RecorderClient, engine: Engine) -> None:
        self._recorder = recorder
        self._engine = engine

    def put_credential(self, operator: Operator, arguments: Json) -> Json:
        put = arguments_of(arguments, _Put)
        parse_credential(put.name)
        manifest = self._active_manifest(put.module)
        manifest.check_shareable(put.shareable)
        check_ceiling_names(manifest, put.ceiling)
        if put.envelopes.keys() != manifest.confidential.keys():
            wanted = ", ".join(sorted(manifest.confidential))
            raise BadInput(f"the secret fields of module '{put.module}' are {wanted}", field="secret")
        with self._engine.begin() as tx:
            version = tx.execute(
                select(CREDENTIALS.c.version).where(CREDENTIALS.c.name == put.name)
            ).scalar_one_or_none()
        item = PutCredential(
            operator=operator,
            credential=put.name,
            version=(version or 0) + 1,
            module=put.module,
            manifest_digest=manifest.digest,
            owner=put.owner,
            labels=put.labels,
            shareable=put.shareable,
            ceiling=put.ceiling,
            envelopes=put.envelopes,
        )
        return {"name": put.name, "version": item.version, "entry": self._recorder.submit(item).index}

    def list_credentials(self, _operator: Operator, _arguments: Json) -> list[Json]:
        with self._engine.begin() as tx:
            found = tx.execute(_CREDENTIALS.order_by(CREDENTIALS.c.name)).mappings()
            return [dict(row) for row in found]

    def show_credential(self, _operator: Operator, arguments: Json) -> Json:
        name = arguments_of(arguments, _Named).name
        with self._engine.begin() as tx:
            row = tx.execute(_CREDENTIALS.where(CREDENTIALS.c.name == name)).mappings().first()
        if row is None:
            raise NotFound(f"there is no credential '{name}'")
        return dict(row)

    def disable_credential(self, operator: Operator, arguments: Json) -> Json:
        item = DisableCredential(operator=operator, credential=arguments_of(arguments, _Named).name)
        return {"entry": self._recorder.submit(item).index}

    def delete_credential(self, operator: Operator, arguments: Json) -> Json:
        item = DeleteCredential(operator=operator, credential=arguments_of(arguments, _Named).name)
        return {"entry": self._recorder.submit(item).index}

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

    def set_policy(self, operator: Operator, arguments: Json) -> Json:
        policies = self._parse_policy(arguments_of(arguments, _Policy).policy)
        item = SetPolicy(operator=operator, policy_digest=policies.digest, policy=policies.text)
        return {
            "policy": policies.digest,
            "rules": list(policies.rules),
            "entry": self._recorder.submit(item).index,
        }

    def validate_policy(self, _operator: Operator, arguments: Json) -> Json:
        policies = self._parse_policy(arguments_of(arguments, _Policy).policy)
        return {"policy": policies.digest, "rules": list(policies.rules)}

    def show_policy(self, _operator: Operator, _arguments: Json) -> Json:
        schema = build_schema(self._active_manifests().values())
        return {
            "policy": self._policy_text(),
            "schema": schema.text,
            "guessable": sorted(schema.guessable),
        }

    def _parse_policy(self, text: str) -> PolicySet:
        return PolicySet(text, build_schema(self._active_manifests().values()))

    def _policy_text(self) -> str:
        query = (
            select(POLICIES.c.text)
            .join(ACTIVES, ACTIVES.c.digest == POLICIES.c.digest)
            .where(ACTIVES.c.what == "policy")
        )
        with self._engine.begin() as tx:
            text = tx.execute(query).scalar_one_or_none()
        return text.decode() if text is not None else ""

    def _active_manifests(self) -> dict[str, Manifest]:
        with self._engine.begin() as tx:
            found = list(tx.execute(select(MODULES.c.manifest).where(MODULES.c.state == "active")).scalars())
        return {manifest.name: manifest for manifest in map(parse_manifest, found)}

    def _active_manifest(self, module: str) -> Manifest:
        manifest = self._active_manifests().get(module)
        if manifest is None:
            raise BadInput(f"there is no active module '{module}': load and approve it first", field="module")
        return manifest

    def _check_policies_survive(self, approve: _Approve) -> None:
        query = select(MODULES.c.manifest).where(
            MODULES.c.name == approve.name, MODULES.c.manifest_digest == approve.manifest_digest
        )
        with self._engine.begin() as tx:
            manifest = tx.execute(query).scalars().first()
        if manifest is None:
            raise NotFound(f"no version of '{approve.name}' with this manifest was proposed")
        PolicySet(
            self._policy_text(),
            build_schema({**self._active_manifests(), approve.name: parse_manifest(manifest)}.values()),
        )


def _check_text(source: bytes) -> None:
    """A front that can't read the source of an active module serves none."""
    try:
        source.decode()
    except UnicodeDecodeError as exc:
        raise BadInput("the module's code is not UTF-8", field="source") from exc
