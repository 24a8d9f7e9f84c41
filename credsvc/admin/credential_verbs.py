"""The operators' verbs over credentials: `credential.put .list .show .disable .delete`.

A credential's secrets arrive sealed to the intake key (`credsvc.intake`): this process passes them on and
cannot open them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import msgspec
from sqlalchemy import Engine, select

from credsvc.admin.active import active_manifest
from credsvc.formula.holes import check_ceiling_names
from credsvc.items import DeleteCredential, DisableCredential, PutCredential
from credsvc.names import parse_credential
from credsvc.store.reader import read_all_credentials, read_credential
from credsvc.store.tables import CREDENTIALS
from ostiary.admin.server import Verb, arguments_of
from ostiary.errors import BadInput, NotFound
from ostiary.recorder.client import RecorderClient
from ostiary.work.item import Operator

Json = dict[str, Any]


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


def credential_verbs(recorder: RecorderClient, engine: Engine) -> Mapping[str, Verb]:
    """The verbs by name; `engine` cannot write."""
    verbs = _CredentialVerbs(recorder, engine)
    return {
        "credential.put": verbs.put_credential,
        "credential.list": verbs.list_credentials,
        "credential.show": verbs.show_credential,
        "credential.disable": verbs.disable_credential,
        "credential.delete": verbs.delete_credential,
    }


class _CredentialVerbs:
    def __init__(self, recorder: RecorderClient, engine: Engine) -> None:
        self._recorder = recorder
        self._engine = engine

    def put_credential(self, operator: Operator, arguments: Json) -> Json:
        put = arguments_of(arguments, _Put)
        parse_credential(put.name)
        manifest = active_manifest(self._engine, put.module)
        manifest.check_shareable(put.shareable)
        check_ceiling_names(manifest, put.ceiling)
        if put.envelopes.keys() != manifest.confidential.keys():
            wanted = ", ".join(sorted(manifest.confidential))
            raise BadInput(f"the secret fields of module '{put.module}' are {wanted}", field="secret")
        item = PutCredential(
            operator=operator,
            credential=put.name,
            version=self._last_version(put.name) + 1,
            module=put.module,
            manifest_digest=manifest.digest,
            owner=put.owner,
            labels=put.labels,
            shareable=put.shareable,
            ceiling=put.ceiling,
            envelopes=put.envelopes,
        )
        return {"name": put.name, "version": item.version, "entry": self._recorder.submit(item).index}

    def _last_version(self, name: str) -> int:
        # Of a deleted credential too, which the reader does not show: no version of a name is given twice.
        query = select(CREDENTIALS.c.version).where(CREDENTIALS.c.name == name)
        with self._engine.begin() as tx:
            return tx.execute(query).scalar_one_or_none() or 0

    def list_credentials(self, _operator: Operator, _arguments: Json) -> list[Json]:
        with self._engine.begin() as tx:
            return [asdict(row) for row in read_all_credentials(tx)]

    def show_credential(self, _operator: Operator, arguments: Json) -> Json:
        name = arguments_of(arguments, _Named).name
        with self._engine.begin() as tx:
            row = read_credential(tx, name)
        if row is None:
            raise NotFound(f"there is no credential '{name}'")
        return asdict(row)

    def disable_credential(self, operator: Operator, arguments: Json) -> Json:
        item = DisableCredential(operator=operator, credential=arguments_of(arguments, _Named).name)
        return {"entry": self._recorder.submit(item).index}

    def delete_credential(self, operator: Operator, arguments: Json) -> Json:
        item = DeleteCredential(operator=operator, credential=arguments_of(arguments, _Named).name)
        return {"entry": self._recorder.submit(item).index}
