"""What the front and the operator's process read of a credentials service's store: rows by index, with an
engine that cannot write.

Rules:
- The column `sealed` is never selected here: no process but the recorder has sealed secrets in its memory.
- A credential without its seal was deleted, and is not there.
- The transaction is the caller's, so that several answers may be of one moment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Select, bindparam, select

from credsvc.store.tables import ACTIVES, CREDENTIALS, MODULES, POLICIES

_C, _M = CREDENTIALS.c, MODULES.c
_CLEAR: Final = select(
    _C.name, _C.version, _C.module, _C.owner, _C.labels, _C.shareable, _C.ceiling, _C.disabled
).where(_C.sealed.is_not(None))
_CREDENTIAL: Final = _CLEAR.where(_C.name == bindparam("name"))
_PAGE: Final = _CLEAR.where(_C.name > bindparam("after")).order_by(_C.name).limit(bindparam("limit"))
_ALL: Final = _CLEAR.order_by(_C.name)
_ACTIVE_KEYS: Final = (
    select(_M.name, _M.module_digest, _M.manifest_digest).where(_M.state == "active").order_by(_M.name)
)
_ACTIVE_VERSIONS: Final = select(_M.module_digest, _M.manifest, _M.source).where(_M.state == "active")
_POLICY_DIGEST: Final = select(ACTIVES.c.digest).where(ACTIVES.c.what == "policy")
_POLICY: Final = select(POLICIES.c.text).where(POLICIES.c.digest == bindparam("digest"))


@dataclass(frozen=True, slots=True, kw_only=True)
class ClearCredential:
    """A credential's row without its secrets."""

    name: str
    version: int
    module: str
    owner: str
    labels: Sequence[str]
    shareable: Mapping[str, str]
    ceiling: Mapping[str, Sequence[str]]
    disabled: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ActiveVersion:
    """The version of a module that may be used: digest of its code, manifest (TOML) and code as approved."""

    module_digest: str
    manifest: bytes
    source: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Actives:
    """Digests of all that is active: two that are equal are of the same modules and policies.

    `modules` are (name, module digest, manifest digest) in order of names; `policy_digest` is None until an
    operator has set the first policies.
    """

    policy_digest: str | None
    modules: tuple[tuple[str, str, str], ...]


def read_credential(tx: Connection, name: str) -> ClearCredential | None:
    """A credential by its name."""
    row = tx.execute(_CREDENTIAL, {"name": name}).one_or_none()
    return None if row is None else _clear(row)


def read_page(tx: Connection, *, after: str, limit: int) -> list[ClearCredential]:
    """At most `limit` credentials behind the name `after`, in order of names."""
    return _clears(tx, _PAGE, after=after, limit=limit)


def read_all_credentials(tx: Connection) -> list[ClearCredential]:
    """Every credential, in order of names."""
    return _clears(tx, _ALL)


def _clears(tx: Connection, query: Select[Any], **values: object) -> list[ClearCredential]:
    return [_clear(row) for row in tx.execute(query, values)]


def _clear(row: Any) -> ClearCredential:
    return ClearCredential(**row._mapping)  # noqa: SLF001 - SQLAlchemy's public name


def read_actives(tx: Connection) -> Actives:
    """What is active; two small statements, so a front may ask every second."""
    modules = tuple((name, code, manifest) for name, code, manifest in tx.execute(_ACTIVE_KEYS))
    return Actives(policy_digest=tx.execute(_POLICY_DIGEST).scalar_one_or_none(), modules=modules)


def read_active_versions(tx: Connection) -> list[ActiveVersion]:
    """The active modules' manifests and code."""
    return [ActiveVersion(**row._mapping) for row in tx.execute(_ACTIVE_VERSIONS)]  # noqa: SLF001


def read_policy(tx: Connection, digest: str | None) -> bytes:
    """The policies with this digest (Cedar); empty for None, which permits nothing."""
    # By digest, not by "what is active": under READ COMMITTED (PostgreSQL) the active ones may be others than
    # those that `read_actives` saw a statement ago, and text must never be taken for that of another digest.
    if digest is None:
        return b""
    text: bytes = tx.execute(_POLICY, {"digest": digest}).scalar_one_or_none() or b""
    return text
