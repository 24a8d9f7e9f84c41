"""The present standing of a peer's certificate (`ostiary.peer`) towards the CA that made it. Pure.

Rules:
- TLS verified chain and key at the handshake. A connection outlives revocation and expiry, so the standing is
  found again on every request.
- What a standing allows is one row in this table: there is no other way in.

    standing     may renew   may be proven   may ask for anything else
    active       yes         no              yes
    renewed      yes         no              yes, and becomes active by it
    bootstrap    no          yes             whoami, and its own end
    superseded   may ask     no              no
    revoked, expired, unknown: nothing

    renewed      pending; its key was not used before
    bootstrap    pending; its address was not proven
    superseded   an older generation that renews is a clone, and the recorder must see it
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Final

from ca.store.rows import CertificateRow
from ostiary.capabilities import Capability
from ostiary.errors import Forbidden, OstiaryError, Unauthenticated
from ostiary.identity import Identity
from ostiary.peer import PeerCertificate, peer_item
from ostiary.work.item import Peer


class Standing(Enum):
    """The standing of a certificate; the values name rules (`certificate-revoked`) and stay."""

    ACTIVE = "active"
    RENEWED = "renewed"
    BOOTSTRAP = "bootstrap"
    SUPERSEDED = "superseded"
    REVOKED = "revoked"
    EXPIRED = "expired"
    UNKNOWN = "unknown"


ASKERS: Final = frozenset((Standing.ACTIVE, Standing.RENEWED))
RENEWERS: Final = ASKERS | {Standing.SUPERSEDED}
PROVERS: Final = frozenset((Standing.BOOTSTRAP,))
SEEN: Final = ASKERS | PROVERS


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """A peer that was let in, with its certificate's row as it is now."""

    serial: str
    der: bytes
    identity: Identity
    row: CertificateRow

    @property
    def peer(self) -> Peer:
        """The caller as work items name it."""
        return peer_item(self.serial, self.identity)

    def may(self, capability: Capability) -> bool:
        """Whether its certificate carries a capability."""
        return capability in self.identity.capabilities


def standing_of(row: CertificateRow | None, certificate: PeerCertificate, now: datetime) -> Standing:
    """Find the standing of a certificate; `row` is the store's row of its serial number."""
    # Revoked before expired: the reason for a refusal that tells most.
    if row is None:
        return Standing.UNKNOWN
    if row.status == "revoked":
        return Standing.REVOKED
    if now > certificate.not_after:
        return Standing.EXPIRED
    if row.status == "pending":
        return Standing.BOOTSTRAP if row.bootstrap else Standing.RENEWED
    return Standing.SUPERSEDED if row.status == "superseded" else Standing.ACTIVE


_WHY: Final = {
    Standing.ACTIVE: "is active already",
    Standing.RENEWED: "is a renewal, which its first use makes active",
    Standing.BOOTSTRAP: "is pending: prove it first",
    Standing.SUPERSEDED: "was superseded by a later one of its lineage",
    Standing.REVOKED: "is revoked",
    Standing.EXPIRED: "has expired",
    Standing.UNKNOWN: "is not known to this CA",
}


def error_for(standing: Standing) -> OstiaryError:
    """The error for a certificate of that standing."""
    message = f"client certificate: {_WHY[standing]}"
    # 401: such a certificate proves nothing here. 403: the CA knows whom it refuses (RFC 9110 sections 15.5.2
    # and 15.5.4).
    if standing in {Standing.EXPIRED, Standing.UNKNOWN}:
        return Unauthenticated(message, field="certificate")
    return Forbidden(message, rule=f"certificate-{standing.value}", field="certificate")
