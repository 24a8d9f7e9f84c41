"""The rows of a credentials service's store as values, and a batch's view of them.

Rules:
- `Rows` holds what a batch concerns. Decisions read and replace rows in it, so that a later item of the batch
  sees what an earlier one changed.
- Pure: loading and storing are `credsvc.recorder.storing`'s.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

ModuleState = Literal["proposed", "active", "retired"]


class ModuleKey(NamedTuple):
    """The primary key of a module's version; digests are lower-case hex of SHA-256."""

    name: str
    module_digest: str
    manifest_digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialRow:
    """What decisions ask of a credential; `sealed` is None once it was deleted."""

    name: str
    version: int
    module: str
    disabled: bool
    sealed: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleRow:
    """One version of a module."""

    name: str
    module_digest: str
    manifest_digest: str
    manifest: bytes
    state: ModuleState

    @property
    def key(self) -> ModuleKey:
        """The primary key."""
        return ModuleKey(self.name, self.module_digest, self.manifest_digest)


@dataclass(slots=True, kw_only=True)
class Rows:
    """The rows that a batch concerns. Owner: the recorder's thread, for one turn."""

    credentials: dict[str, CredentialRow] = field(default_factory=dict)
    modules: dict[ModuleKey, ModuleRow] = field(default_factory=dict)
    policy_digest: str | None = None
    """The active policies' digest; None until an operator has set the first."""
    putting: set[str] = field(default_factory=set)
    """Credentials of which this batch puts a version. It is sealed only after the batch (`settle`), so a
    second put of the same version would be authorized and then lost.
    """

    def active_module(self, name: str) -> ModuleRow | None:
        """The module's version that may be used."""
        return next((m for m in self.modules.values() if m.name == name and m.state == "active"), None)
