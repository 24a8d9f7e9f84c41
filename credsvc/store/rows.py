"""What a decision knows of the store: rows as values, read for a whole batch at once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import BindParameter, Connection, bindparam, select

from credsvc.store.tables import ACTIVES, CREDENTIALS, MODULES
from ostiary.store.statement import Statement

_NAMES: BindParameter[str] = bindparam("names", expanding=True)
_C, _M = CREDENTIALS.c, MODULES.c
_CREDENTIALS: Final = Statement(
    select(_C.name, _C.version, _C.module, _C.disabled, _C.sealed).where(_C.name.in_(_NAMES))
)
_MODULES: Final = Statement(
    select(_M.name, _M.module_digest, _M.manifest_digest, _M.manifest, _M.state).where(_M.name.in_(_NAMES))
)
_POLICY: Final = Statement(select(ACTIVES.c.digest).where(ACTIVES.c.what == "policy"))


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialRow:
    """What decisions ask of a credential; `sealed` None where it was deleted."""

    name: str
    version: int
    module: str
    disabled: bool
    sealed: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleRow:
    """One version of a module; `state` is proposed, active or retired."""

    name: str
    module_digest: str
    manifest_digest: str
    manifest: bytes
    state: str

    @property
    def key(self) -> tuple[str, str, str]:
        """The primary key."""
        return self.name, self.module_digest, self.manifest_digest


@dataclass(slots=True, kw_only=True)
class Rows:
    """The rows that a batch concerns; decisions change them in memory, one after the other."""

    credentials: dict[str, CredentialRow] = field(default_factory=dict)
    modules: dict[tuple[str, str, str], ModuleRow] = field(default_factory=dict)
    policy_digest: str = ""
    putting: set[str] = field(default_factory=set)
    """Credentials of which this batch puts a version: sealed only later, and a second would be lost."""

    def active_module(self, name: str) -> ModuleRow | None:
        """The module's version that may be used."""
        return next((m for m in self.modules.values() if m.name == name and m.state == "active"), None)


def read_rows(tx: Connection, *, credentials: Iterable[str], modules: Iterable[str]) -> Rows:
    """Read what a batch concerns, by key: three statements, whatever the batch's size."""
    names, module_names = list(set(credentials)), set(modules)
    found = [CredentialRow(**each) for each in _CREDENTIALS.fetch(tx, {"names": names})] if names else []
    module_names |= {row.module for row in found}
    of_names = _MODULES.fetch(tx, {"names": list(module_names)}) if module_names else []
    versions = [ModuleRow(**each) for each in of_names]
    policy = _POLICY.fetch(tx, {})
    return Rows(
        credentials={row.name: row for row in found},
        modules={row.key: row for row in versions},
        policy_digest=policy[0]["digest"] if policy else "",
    )
