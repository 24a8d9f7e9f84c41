"""The other end of a TLS connection: a client certificate that TLS has verified, read once. Pure.

Rules:
- A certificate whose names do not map (`ostiary.identity`) identifies nobody: its `identity` is None.
- A connection outlives what the handshake saw: whoever admits a request checks validity and standing again.

Each service determines a peer's standing (revoked, superseded, pending) in its own way: ca/front/peer.py,
credsvc/front/doorkeeper.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from cryptography import x509

from ostiary.certificate import SerialHex, serial_hex
from ostiary.errors import BadInput
from ostiary.identity import Identity, identity_of
from ostiary.work.item import Peer


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerCertificate:
    """A client certificate; `serial` is the text of its serial number in the ledger."""

    der: bytes
    serial_number: int
    serial: SerialHex
    not_before: datetime
    not_after: datetime
    identity: Identity | None


def read_peer(der: bytes) -> PeerCertificate:
    """Read a client certificate (DER)."""
    certificate = x509.load_der_x509_certificate(der)
    identity: Identity | None
    # No error: the operator's tools and the log still want the serial number of such a certificate, and each
    # service decides by itself what a request without an identity gets.
    try:
        identity = identity_of(certificate)
    except BadInput:
        identity = None
    return PeerCertificate(
        der=der,
        serial_number=certificate.serial_number,
        serial=serial_hex(certificate.serial_number),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        identity=identity,
    )


def peer_item(serial: str, identity: Identity) -> Peer:
    """An agent as work items and the ledger name it."""
    return Peer(serial=serial, subsystem=identity.subsystem, node=identity.node, agent=identity.agent)
