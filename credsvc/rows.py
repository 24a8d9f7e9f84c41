"""What a decision knows of the store: rows as values, read for a whole batch at once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from sqlalchemy import BindParameter, Connection, bindparam, select

from credsvc.tables import ACTIVES, CREDENTIALS, MODULES

# Built once: building a statement costs more than SQLite takes to run it.
_NAMES: BindParameter[str] = bindparam("names", expanding=True)
_CREDENTIALS = select(CREDENTIALS).where(CREDENTIALS.c.name.in_(_NAMES))
_MODULES = select(
    MODULES.c.name,
    MODULES.c.module_digest,
    MODULES.c.manifest_digest,
    MODULES.c.manifest,
    MODULES.c.state,
).where(MODULES.c.name.in_(_NAMES))
_POLICY = select(ACTIVES.c.digest).where(ACTIVES.c.what == "policy")


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialRow:
    """A credential as it stands; `sealed` None while its first version waits for the keyholder."""

    name: str
    version: int
    module: str
    owner: str
    labels: tuple[str, ...]
    shareable: dict[str, str]
    ceiling: dict[str, tuple[str, ...]]
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

    def active_module(self, name: str) -> ModuleRow | None:
        """The module's version that may be used."""
        return next((m for m in self.modules.values() if m.name == name and m.state == "active"), None)


def read_rows(tx: Connection, *, credentials: Iterable[str], modules: Iterable[str]) -> Rows:
    """Read what a batch concerns, by key: three statements, whatever the batch's size."""
    names, module_names = set(credentials), set(modules)
    found = tx.execute(_CREDENTIALS, {"names": list(names)}).mappings() if names else ()
    rows = {
        row["name"]: CredentialRow(
            name=row["name"],
            version=row["version"],
            module=row["module"],
            owner=row["owner"],
            labels=tuple(row["labels"]),
            shareable=row["shareable"],
            ceiling={name: tuple(patterns) for name, patterns in row["ceiling"].items()},
            disabled=row["disabled"],
            sealed=row["sealed"],
        )
        for row in found
    }
    module_names |= {row.module for row in rows.values()}
    of_names = tx.execute(_MODULES, {"names": list(module_names)}).mappings() if module_names else ()
    versions = [ModuleRow(**row) for row in of_names]
    digest = tx.execute(_POLICY).scalar_one_or_none()
    return Rows(credentials=rows, modules={m.key: m for m in versions}, policy_digest=digest or "")
