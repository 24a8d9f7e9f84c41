"""The acts of a certificate authority whose signature its keyholder makes.

Rules:
- `Prepared` says in plain fields what its to-be-signed bytes say in DER. The recorder decides on the fields;
  the keyholder writes or parses the bytes and refuses a difference, so neither needs to trust the other's
  reading.
- They stand apart from the other acts (`ca.items`), so that the trusted base loads what it signs and no more.
- `facts` are what the ledger tells of each act. Entries are compared byte by byte (docs/adr/0008), so a
  member is never renamed, and a value never gets another encoding.

Times are whole seconds since the epoch (X.509 has no finer), serial numbers lower-case hex without leading
zeros, digests raw bytes.
"""

from __future__ import annotations

import hashlib
from typing import Final

import msgspec

from ostiary.work.item import Facts, Item, Peer

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


class Resign(Item, frozen=True, kw_only=True):
    """Sign a recorded certificate once more, because its answer was lost. The bytes are those of its first
    entry.
    """

    certificate: Prepared

    def facts(self) -> Facts:
        """The certificate."""
        return {"certificate": self.certificate.facts()}


class FrontCertificate(Item, frozen=True, kw_only=True):
    """The front's own TLS certificate, for a key that it made in memory."""

    certificate: Prepared

    def facts(self) -> Facts:
        """The certificate."""
        return {"certificate": self.certificate.facts()}


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


SIGNED_KINDS: tuple[type[Item], ...] = (
    Redeem,
    Renew,
    Spawn,
    Resign,
    FrontCertificate,
    ResponderCertificate,
    PublishCRL,
)
