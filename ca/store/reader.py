"""How the network side reads the CA's store: rows by index, never a scan, with an engine that cannot write.

Rules:
- One short read transaction per question; each sees what the recorder committed before it. Busy where the
  store can't be read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Engine, Select, bindparam, func, select

from ca.certificates.crl import ReasonCode
from ca.certificates.ocsp import CertStatus, Good, Revoked
from ca.certificates.shards import Shard, ShardNumber, first_shard
from ca.store.certificate_columns import certificates_of
from ca.store.rows import CertificateRow, ShardRow, TokenRow
from ca.store.tables import CERTIFICATES, CRLS, REVOCATIONS, SHARDS, TOKENS
from ca.store.tbs_packing import Templates
from ostiary.store.database import reading
from ostiary.timestamp import EpochSeconds, moment_of

# Of one answer of the feed, about 100 kB; a client asks again at once for the next.
MAX_REVOCATIONS: Final = 1000

_TOKEN: Final = select(TOKENS).where(TOKENS.c.token_id == bindparam("token_id"))
_CERTIFICATE: Final = select(CERTIFICATES).where(CERTIFICATES.c.serial == bindparam("serial"))
_C = CERTIFICATES.c
_STATUS: Final = select(_C.serial, _C.status, _C.revoked_at, _C.reason).where(
    _C.serial.in_(bindparam("serials", expanding=True))
)
_SHARD: Final = (
    select(SHARDS.c.number, SHARDS.c.opened_at, SHARDS.c.count).order_by(SHARDS.c.number.desc()).limit(1)
)
_LAST_REVOCATION: Final = select(func.max(REVOCATIONS.c.n))
_SINCE: Final = (
    select(REVOCATIONS.c.n, REVOCATIONS.c.serial, REVOCATIONS.c.revoked_at, REVOCATIONS.c.reason)
    .where(REVOCATIONS.c.n > bindparam("since"))
    .order_by(REVOCATIONS.c.n)
    .limit(MAX_REVOCATIONS)
)
_IS_SIGNED: Final = CRLS.c.der.is_not(None)
_CRL_NUMBERS: Final = select(CRLS.c.shard, CRLS.c.signed_number).where(_IS_SIGNED).order_by(CRLS.c.shard)
_CRLS: Final = select(CRLS.c.shard, CRLS.c.signed_number, CRLS.c.der).where(
    _IS_SIGNED, CRLS.c.shard.in_(bindparam("shards", expanding=True))
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationStep:
    """One step of the feed, with its number."""

    n: int
    serial: str
    revoked_at: EpochSeconds
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredCRL:
    """A signed list (DER) and its CRLNumber."""

    number: int
    der: bytes


class StoreReader:
    """Questions to the store. Thread-safe; made after fork."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._templates = Templates()

    @property
    def engine(self) -> Engine:
        """For readers of the ledger's tables."""
        return self._engine

    def _one(self, query: Select[Any], **values: object) -> Any:
        with reading(self._engine) as tx:
            return tx.execute(query, values).one_or_none()

    def token(self, token_id: str) -> TokenRow | None:
        """A token by its id."""
        row = self._one(_TOKEN, token_id=token_id)
        return None if row is None else TokenRow(**row._mapping)  # noqa: SLF001 - SQLAlchemy's public name

    def certificate(self, serial: str) -> CertificateRow | None:
        """A certificate by its serial number (hex)."""
        with reading(self._engine) as tx:
            found = tx.execute(_CERTIFICATE, {"serial": serial}).mappings().all()
            return next(iter(certificates_of(tx, found, self._templates)), None)

    def open_shard(self, now: datetime) -> Shard:
        """The shard that is filled now; the first one, opened now, where there is none yet."""
        row = self._one(_SHARD)
        return first_shard(now) if row is None else _shard(row)

    def statuses(self, serials: Sequence[str]) -> dict[str, CertStatus]:
        """The OCSP status of each serial number; numbers that were never issued are missing."""
        with reading(self._engine) as tx:
            rows = tx.execute(_STATUS, {"serials": list(serials)}).all()
        return {row.serial: _cert_status(row) for row in rows}

    def last_revocation(self) -> int:
        """The feed's newest number, 0 before the first."""
        row = self._one(_LAST_REVOCATION)
        return row[0] or 0

    def revocations_since(self, since: int) -> list[RevocationStep]:
        """At most MAX_REVOCATIONS steps after `since`, in order."""
        with reading(self._engine) as tx:
            # n may have gaps (PostgreSQL does not undo a sequence), but never goes back: the recorder alone
            # writes.
            return [RevocationStep(**row) for row in tx.execute(_SINCE, {"since": since}).mappings()]

    def crl_numbers(self) -> dict[int, int]:
        """The CRLNumber of each list that is signed, by its shard, in order (-1: the complete one)."""
        with reading(self._engine) as tx:
            return {row.shard: row.signed_number for row in tx.execute(_CRL_NUMBERS)}

    def crls(self, shards: Sequence[int]) -> dict[int, StoredCRL]:
        """The newest signed list of each of these shards; one that has none is missing."""
        with reading(self._engine) as tx:
            rows = tx.execute(_CRLS, {"shards": list(shards)}).all()
        return {row.shard: StoredCRL(number=row.signed_number, der=row.der) for row in rows}


def _shard(row: Any) -> Shard:
    opened_at = moment_of(row.opened_at)
    return Shard(number=ShardNumber(row.number), opened_at=opened_at, count=row.count)


def _cert_status(row: Any) -> CertStatus:
    # Superseded is good: the certificate's key is still its agent's, until it ends.
    if row.status != "revoked":
        return Good()
    return Revoked(revoked_at=moment_of(row.revoked_at), reason=ReasonCode[row.reason])


def newest_shard(tx: Connection) -> ShardRow | None:
    """The shard that certificates are put into now; None before the first."""
    found = tx.execute(select(SHARDS).order_by(SHARDS.c.number.desc()).limit(1)).one_or_none()
    return None if found is None else ShardRow(**found._mapping)  # noqa: SLF001 - SQLAlchemy's public name


def feed_end(tx: Connection) -> int:
    """The number of the newest revocation, 0 before the first."""
    return tx.execute(select(func.max(REVOCATIONS.c.n))).scalar_one() or 0
