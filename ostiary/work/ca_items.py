"""The closed set of acts of a certificate authority.

Rules:
- `Prepared` says in plain fields what its to-be-signed bytes say in DER. The recorder decides on the fields; the keyholder parses the
  bytes and refuses a difference, so neither needs to trust the other's reading.
- Three closed lists say which channel may ask for what; `INTERNAL` items are made by the recorder itself.

Times are whole seconds since the epoch (X.509 has no finer), serial numbers lower-case hex without leading zeros, digests raw bytes.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from ostiary.work.item import Item, Operator, Peer

ReasonCode = Literal[
    "unspecified",
    "keyCompromise",
    "affiliationChanged",
    "superseded",
    "cessationOfOperation",
    "privilegeWithdrawn",
]
"""RFC 5280, section 5.3.1: the reasons that end a certificate for good."""


class Prepared(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A certificate that was built and linted, and awaits its record and its signature."""

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


# --- asked for by the front ---------------------------------------------------------------------------------------------------


class Redeem(Item, frozen=True, kw_only=True):
    """Spend an enrollment token on a certificate."""

    token_id: str
    token_digest: bytes
    address: str
    certificate: Prepared


class Renew(Item, frozen=True, kw_only=True):
    """Replace the certificate `serial`, which authenticated the request, by its next generation."""

    serial: str
    certificate: Prepared


class Spawn(Item, frozen=True, kw_only=True):
    """A manager asks, for the spawner with certificate `spawner` on its node, for a new agent's certificate.

    `asked` are the capabilities that the spawner asked for: the new agent's own descendants never get more than these.
    """

    manager: Peer
    spawner: str
    asked: tuple[str, ...]
    certificate: Prepared


class Activate(Item, frozen=True, kw_only=True):
    """A pending certificate was proven: by the CA's dial-back, by its first use, or by its own uncontested word."""

    serial: str
    means: Literal["dial-back", "used", "self"]


class Retire(Item, frozen=True, kw_only=True):
    """An agent's scope ended, or it asks for its own end: revoke its certificate."""

    by: Peer
    serial: str
    reason: ReasonCode


class Refuse(Item, frozen=True, kw_only=True):
    """The front refused a known peer; nothing else happens than this record."""

    by: Peer
    act: str
    target: str
    rule: str
    reason: str


class Refusals(Item, frozen=True, kw_only=True):
    """Refusals without an identity, counted over a minute per source and reason."""

    source: str
    reason: str
    count: int


class FrontCertificate(Item, frozen=True, kw_only=True):
    """The front's own TLS certificate, for a key that it made in memory."""

    certificate: Prepared


# --- asked for by the responder -----------------------------------------------------------------------------------------------


class ResponderCertificate(Item, frozen=True, kw_only=True):
    """The OCSP responder's own certificate (id-kp-OCSPSigning, at most 24 h)."""

    serial: str
    not_after: int
    spki_digest: bytes
    tbs: bytes


# --- asked for by an operator -------------------------------------------------------------------------------------------------


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


class VoidToken(Item, frozen=True, kw_only=True):
    """Make a token worthless."""

    operator: Operator
    token_id: str


class ConfirmNode(Item, frozen=True, kw_only=True):
    """An operator compared the fingerprint of a pending certificate out of band."""

    operator: Operator
    node: str
    serial: str
    fingerprint: bytes


class Revoke(Item, frozen=True, kw_only=True):
    """An operator revokes a certificate; for keyCompromise its descendants go with it."""

    operator: Operator
    serial: str
    reason: ReasonCode


# --- made by the recorder itself ----------------------------------------------------------------------------------------------


class Resign(Item, frozen=True, kw_only=True):
    """Sign a recorded certificate once more: its answer was lost. The bytes are those of its first entry."""

    certificate: Prepared


class ExpirePending(Item, frozen=True, kw_only=True):
    """A pending certificate was not proven in time."""

    serial: str


class RevokeDescendant(Item, frozen=True, kw_only=True):
    """A certificate goes with the ancestor that was revoked."""

    serial: str
    ancestor: str
    reason: ReasonCode


class VoidCertificate(Item, frozen=True, kw_only=True):
    """A certificate goes because of another act: its token was contested, a later renewal replaced it, its node begins again."""

    serial: str
    because: Literal["contested", "replaced", "again"]
    reason: ReasonCode


class PublishCRL(Item, frozen=True, kw_only=True, tag="publish-crl"):
    """A certificate revocation list: of one shard, or (shard -1) the complete one.

    A list may be larger than an item, so its to-be-signed bytes are the attachment and the item names their SHA-256.
    """

    shard: int
    number: int
    this_update: int
    revoked: int
    tbs_digest: bytes


class Alarm(Item, frozen=True, kw_only=True):
    """Something happened that cannot happen unless a part lies or is broken."""

    what: str
    detail: str


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
