"""What a CA's keyholder signs: certificates and CRLs of its own profile, each compared with its record.

Rules:
- The record's plain fields (`Prepared`) and the to-be-signed bytes must say the same;
  ca/keyholder/prepared_guard.py compares them.
- Signatures are deterministic (RFC 6979, RFC 8032): signing a recorded certificate again gives the same
  bytes, so an answer that was lost can be given again.
- The output of an item is the signature alone, DER for ECDSA, 64 raw bytes for Ed25519.
"""

from __future__ import annotations

import hashlib
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256, SHA384

from ca.evaluated_items import (
    COMPLETE,
    SIGNED_KINDS,
    FrontCertificate,
    PublishCRL,
    Redeem,
    Renew,
    Resign,
    ResponderCertificate,
    Spawn,
)
from ca.keyholder.certificate_guard import (
    CertificateGuard,
    certificate_guard,
    check_tbs_cert_list,
    check_tbs_responder,
)
from ca.keyholder.keys import CAKeys, IssuingKey, load_issuing_key
from ca.keyholder.prepared_guard import check_prepared
from ostiary.certificate import parse_tbs, serial_hex, spki_digest
from ostiary.errors import Forbidden
from ostiary.keyholder.protocol import Document
from ostiary.subsystems import CERTIFICATE_AUTHORITY, SERVICES
from ostiary.work.item import Item, ItemDecoder


class CAEvaluator:
    """Signs what the guard lets pass. Owner: the keyholder's one thread."""

    decoder = ItemDecoder(SIGNED_KINDS)

    def __init__(self, keys: CAKeys) -> None:
        self._key = load_issuing_key(keys.issuing_key)
        self._guard = certificate_guard(
            x509.load_der_x509_certificate(keys.issuing_certificate),
            ocsp_url=keys.ocsp_url,
            ca_issuers_url=keys.ca_issuers_url,
            crl_base_url=keys.crl_base_url,
        )

    def prime(self, document: Document, *, now: datetime) -> None:  # noqa: ARG002 - the port
        """A CA keeps no documents."""
        raise Forbidden("a CA's keyholder takes no documents", rule="no-documents")

    def evaluate(self, item: Item, attachment: bytes, *, now: datetime) -> bytes:
        """Check with the guard, then sign; raises Forbidden(rule).

        `ostiary.keyholder.engine` has found the item's entry in the ledger before it calls this.
        """
        match item:
            case Redeem() | Renew() | Spawn() | Resign() | FrontCertificate():
                self._check_prepared(item, now)
                return _sign(self._key, item.certificate.tbs)
            case ResponderCertificate():
                # The bytes are an OCSP responder's, and say what the record says in plain fields.
                check_tbs_responder(item.tbs, self._guard, now)
                parsed = parse_tbs(item.tbs)
                _require_same(
                    (
                        serial_hex(parsed.serial_number),
                        _seconds(parsed.not_valid_after_utc),
                        spki_digest(parsed),
                    ),
                    (item.serial, item.not_after, item.spki_digest.hex()),
                )
                return _sign(self._key, item.tbs)
            case PublishCRL():
                # A list may be larger than an item, so it rides beside it and the record has its digest.
                _require_same(
                    (hashlib.sha256(attachment).digest(), _scope(attachment, self._guard, now)),
                    (item.tbs_digest, (item.number, item.shard)),
                )
                return _sign(self._key, attachment)
            case _:
                raise Forbidden("items of this kind have nothing to sign", rule="kind-not-signed")

    def _check_prepared(
        self, item: Redeem | Renew | Spawn | Resign | FrontCertificate, now: datetime
    ) -> None:
        identity = check_prepared(item.certificate, self._guard, now)
        # The kind of the item is recorded, too: a front certificate that was recorded as a renewal, or the
        # other way round, would be a lie about who asked.
        is_front = isinstance(item, FrontCertificate)
        if is_front != (identity.subsystem == CERTIFICATE_AUTHORITY):
            raise Forbidden("only the front's certificate may have the CA's own name", rule="authority-name")
        # A client that connects to a service verifies the node's name; an agent with it could pose as the
        # service.
        if identity.node_name_in_san != (identity.subsystem in SERVICES):
            raise Forbidden("only certificates of services may have their node's name", rule="node-name")


def _scope(tbs: bytes, guard: CertificateGuard, now: datetime) -> tuple[int, int]:
    """Number and shard of a list that may be signed; -1 for the complete one."""
    scope = check_tbs_cert_list(tbs, guard, now)
    return scope.crl_number, COMPLETE if scope.shard is None else scope.shard


def _require_same(signed: tuple[object, ...], recorded: tuple[object, ...]) -> None:
    if signed != recorded:
        raise Forbidden("the record describes different bytes", rule="record-differs")


def _seconds(moment: datetime) -> int:
    return int(moment.timestamp())


def _sign(key: IssuingKey, tbs: bytes) -> bytes:
    # P-384 with SHA-384, P-256 with SHA-256 (RFC 5480 section 4); Ed25519 is deterministic by itself.
    if isinstance(key, ec.EllipticCurvePrivateKey):
        digest = SHA384() if isinstance(key.curve, ec.SECP384R1) else SHA256()
        return key.sign(tbs, ec.ECDSA(digest, deterministic_signing=True))
    return key.sign(tbs)
