"""The closed set of acts of a certificate authority.

Rules:
- Those whose signature the keyholder makes are in `ca.evaluated_items`; it loads no others.
- `facts` are what the ledger tells of each act. Entries are compared byte by byte (docs/adr/0008), so a
  member is never renamed, and a value never gets another encoding.
- Three closed lists say which channel may ask for what; the recorder itself makes the `INTERNAL` items.

Times are whole seconds since the epoch (X.509 has no finer), serial numbers lower-case hex without leading
zeros, digests raw bytes. "" and b"" stand for what is not said; rows have None there (ca/store/rows.py).
"""

from __future__ import annotations

from typing import Literal

from ca.evaluated_items import (
    COMPLETE,
    FrontCertificate,
    Prepared,
    PublishCRL,
    Redeem,
    Renew,
    Resign,
    ResponderCertificate,
    Spawn,
)
from ostiary.work.item import Facts, Item, Operator, Peer
from ostiary.work.reports import Alarm, Refusals, Refuse

__all__ = [
    "ADMIN",
    "COMPLETE",
    "FRONT",
    "INTERNAL",
    "RESPONDER",
    "Activate",
    "ConfirmNode",
    "ExpirePending",
    "FrontCertificate",
    "MintToken",
    "Prepared",
    "PublishCRL",
    "ReasonCode",
    "Redeem",
    "Renew",
    "Resign",
    "ResponderCertificate",
    "Retire",
    "Revoke",
    "RevokeDescendant",
    "Spawn",
    "VoidCertificate",
    "VoidToken",
]

ReasonCode = Literal[
    "unspecified",
    "keyCompromise",
    "affiliationChanged",
    "superseded",
    "cessationOfOperation",
    "privilegeWithdrawn",
]
"""RFC 5280, section 5.3.1: the reasons that end a certificate for good."""


# --- asked for by the front ---


class Activate(Item, frozen=True, kw_only=True):
    """Make a proven certificate active: proven by the CA's dial-back, by its first use, or by the agent's own
    uncontested word.
    """

    serial: str
    means: Literal["dial-back", "used", "self"]

    def facts(self) -> Facts:
        """How it was proven."""
        return {"means": self.means, "serial": self.serial}


class Retire(Item, frozen=True, kw_only=True):
    """Revoke an agent's certificate, because its scope ended or it asks for its own end."""

    by: Peer
    serial: str
    reason: ReasonCode

    def facts(self) -> Facts:
        """Who ended it, and why."""
        return {"by": self.by.facts(), "revocation_reason": self.reason, "serial": self.serial}


# --- asked for by an operator ---


class MintToken(Item, frozen=True, kw_only=True):
    """Make an enrollment token; the recorder gets only the digest of its secret."""

    operator: Operator
    token_id: str
    token_digest: bytes
    subsystem: str
    node: str
    agent: str
    capabilities: tuple[str, ...]
    endpoints: tuple[str, ...]
    lifetime_s: int
    expires_at: int
    address: str
    spki_digest: bytes
    bootstrap: bool
    again: bool

    def facts(self) -> Facts:
        """All that the token grants; never a digest of its secret."""
        return {
            "again": self.again,
            "bootstrap": self.bootstrap,
            "by": self.operator.facts(),
            "expires_at": self.expires_at,
            "grants": {
                "address": self.address,
                "agent": self.agent,
                "capabilities": list(self.capabilities),
                "endpoints": list(self.endpoints),
                "lifetime_s": self.lifetime_s,
                "node": self.node,
                "spki": self.spki_digest.hex(),
                "subsystem": self.subsystem,
            },
            "token": self.token_id,
        }


class VoidToken(Item, frozen=True, kw_only=True):
    """Make a token worthless."""

    operator: Operator
    token_id: str

    def facts(self) -> Facts:
        """Who voided which token."""
        return {"by": self.operator.facts(), "token": self.token_id}


class ConfirmNode(Item, frozen=True, kw_only=True):
    """Make a pending certificate active whose fingerprint an operator has compared out of band."""

    operator: Operator
    node: str
    serial: str
    fingerprint: bytes

    def facts(self) -> Facts:
        """Who compared what."""
        return {
            "by": self.operator.facts(),
            "fingerprint": self.fingerprint.hex(),
            "node": self.node,
            "serial": self.serial,
        }


class Revoke(Item, frozen=True, kw_only=True):
    """An operator revokes a certificate; for keyCompromise its descendants go with it."""

    operator: Operator
    serial: str
    reason: ReasonCode

    def facts(self) -> Facts:
        """Who revoked it, and why."""
        return {"by": self.operator.facts(), "revocation_reason": self.reason, "serial": self.serial}


# --- made by the recorder itself ---


class ExpirePending(Item, frozen=True, kw_only=True):
    """Revoke a pending certificate that was not proven in time."""

    serial: str

    def facts(self) -> Facts:
        """Which certificate."""
        return {"serial": self.serial}


class RevokeDescendant(Item, frozen=True, kw_only=True):
    """Revoke a certificate together with its ancestor."""

    serial: str
    ancestor: str
    reason: ReasonCode

    def facts(self) -> Facts:
        """The ancestor, and why."""
        return {
            "ancestor": self.ancestor,
            "revocation_reason": self.reason,
            "serial": self.serial,
        }


class VoidCertificate(Item, frozen=True, kw_only=True):
    """Revoke a certificate because of another act: its token was contested, a later renewal replaced it, or
    its node begins again.
    """

    serial: str
    because: Literal["contested", "replaced", "again"]
    reason: ReasonCode

    def facts(self) -> Facts:
        """Which act voided it."""
        return {
            "because": self.because,
            "revocation_reason": self.reason,
            "serial": self.serial,
        }


FRONT: tuple[type[Item], ...] = (Redeem, Renew, Spawn, Activate, Retire, Refuse, Refusals, FrontCertificate)
RESPONDER: tuple[type[Item], ...] = (ResponderCertificate,)
ADMIN: tuple[type[Item], ...] = (MintToken, VoidToken, ConfirmNode, Revoke)
INTERNAL: tuple[type[Item], ...] = (
    Resign,
    ExpirePending,
    RevokeDescendant,
    VoidCertificate,
    PublishCRL,
    Alarm,
)
