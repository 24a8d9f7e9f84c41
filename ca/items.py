"""The closed set of acts of a certificate authority.

Rules:
- `Prepared` says in plain fields what its to-be-signed bytes say in DER. The recorder decides on the fields;
  the keyholder writes or parses the bytes and refuses a difference, so neither needs to trust the other's
  reading.
- `facts` are what the ledger tells of each act. Entries are compared byte by byte (docs/adr/0008), so a
  member is never renamed, and a value never gets another encoding.
- Three closed lists say which channel may ask for what; the recorder itself makes the `INTERNAL` items.

Times are whole seconds since the epoch (X.509 has no finer), serial numbers lower-case hex without leading
zeros, digests raw bytes. "" and b"" stand for what is not said; rows have None there (ca/store/rows.py).
"""

from __future__ import annotations

import hashlib
from typing import Final, Literal

import msgspec

from ostiary.work.item import Facts, Item, Operator, Peer
from ostiary.work.reports import Alarm, Refusals, Refuse

ReasonCode = Literal[
    "unspecified",
    "keyCompromise",
    "affiliationChanged",
    "superseded",
    "cessationOfOperation",
    "privilegeWithdrawn",
]
"""RFC 5280, section 5.3.1: the reasons that end a certificate for good."""


COMPLETE: Final = -1
"""The shard number of the complete list, which is of no shard."""


class Prepared(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A certificate that was written and linted, and awaits its record and its signature."""

    serial: str
    subsystem: str
    node: str
    agent: str
    capabilities: tuple[str, ...]
    endpoints: tuple[str, ...]
    not_before: int
    not_after: int
    shard: int
    spki_digest: bytes
    tbs: bytes

    def facts(self) -> Facts:
        """The certificate as an entry names it; `tbs` is the SHA-256 of its to-be-signed bytes."""
        return {
            "agent": self.agent,
            "capabilities": list(self.capabilities),
            "endpoints": list(self.endpoints),
            "node": self.node,
            "not_after": self.not_after,
            "not_before": self.not_before,
            "serial": self.serial,
            "spki": self.spki_digest.hex(),
            "subsystem": self.subsystem,
            "tbs": hashlib.sha256(self.tbs).hexdigest(),
        }


# --- asked for by the front ---


class Redeem(Item, frozen=True, kw_only=True):
    """Spend an enrollment token on a certificate; `address` is the peer's, in its one spelling."""

    token_id: str
    token_digest: bytes
    address: str
    certificate: Prepared

    def facts(self) -> Facts:
        """The token, the address it came from, and what it bought."""
        # Never the digest of the secret: an auditor could try guesses against it.
        return {"address": self.address, "certificate": self.certificate.facts(), "token": self.token_id}


class Renew(Item, frozen=True, kw_only=True):
    """Replace the certificate `serial`, which authenticated the request, by its next generation."""

    serial: str
    certificate: Prepared

    def facts(self) -> Facts:
        """The new generation and the one before."""
        return {"certificate": self.certificate.facts(), "previous": self.serial}


class Spawn(Item, frozen=True, kw_only=True):
    """A manager asks, for the spawner with certificate `spawner` on its node, for a new agent's certificate.

    `asked` are the capabilities that the spawner asked for: the new agent's own descendants never get more
    than these.
    """

    manager: Peer
    spawner: str
    asked: tuple[str, ...]
    certificate: Prepared

    def facts(self) -> Facts:
        """Who asked for whom, under whose ceiling."""
        return {
            "asked": list(self.asked),
            "by": self.manager.facts(),
            "certificate": self.certificate.facts(),
            "parent": self.spawner,
        }


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


class FrontCertificate(Item, frozen=True, kw_only=True):
    """The front's own TLS certificate, for a key that it made in memory."""

    certificate: Prepared

    def facts(self) -> Facts:
        """The certificate."""
        return {"certificate": self.certificate.facts()}


# --- asked for by the responder ---


class ResponderCertificate(Item, frozen=True, kw_only=True):
    """The OCSP responder's own certificate (id-kp-OCSPSigning, at most 24 h)."""

    serial: str
    not_after: int
    spki_digest: bytes
    tbs: bytes

    def facts(self) -> Facts:
        """The facts of `Prepared`, as far as a responder has them."""
        return {
            "not_after": self.not_after,
            "serial": self.serial,
            "spki": self.spki_digest.hex(),
            "tbs": hashlib.sha256(self.tbs).hexdigest(),
        }


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


class Resign(Item, frozen=True, kw_only=True):
    """Sign a recorded certificate once more, because its answer was lost. The bytes are those of its first
    entry.
    """

    certificate: Prepared

    def facts(self) -> Facts:
        """The certificate."""
        return {"certificate": self.certificate.facts()}


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


class PublishCRL(Item, frozen=True, kw_only=True, tag="publish-crl"):
    """A certificate revocation list: of one shard, or (shard -1) the complete one.

    A list may be larger than an item, so its to-be-signed bytes are the attachment and the item names their
    SHA-256.
    """

    shard: int
    number: int
    this_update: int
    revoked: int
    tbs_digest: bytes

    def facts(self) -> Facts:
        """The list by its number and digest."""
        return {
            "number": self.number,
            "revoked": self.revoked,
            "shard": self.shard,
            "tbs": self.tbs_digest.hex(),
            "this_update": self.this_update,
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
