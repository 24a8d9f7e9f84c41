"""The bytes of OCSP: requests read by hand (several certificates, a nonce), responses written by hand.

Rules:
- A request asks about at most MAX_CERT_IDS certificates; its optional signature is ignored.
- A CertID is ours when both its hashes are those of the issuing certificate, by SHA-1 or SHA-256; for others
  the answer is `unauthorized`.
- An error is one of three unsigned messages: malformedRequest, tryLater, unauthorized.
- The responder is named by its key, and each answer carries its certificate: GnuTLS refuses one without.
- pyca/cryptography 50 reads requests with one CertID only and writes single responses only, hence by hand.

Standard: RFC 6960, RFC 9654 (nonce: 1 to 128 octets; RFC 8954 before it said 32), RFC 5019 (GET).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Final, assert_never
from urllib.parse import unquote

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ca.certificates.crl import ReasonCode
from ostiary import der
from ostiary.errors import BadInput

MAX_REQUEST_BYTES: Final = 16_384
MAX_CERT_IDS: Final = 64
MAX_NONCE_BYTES: Final = 128
MAX_SERIAL_BYTES: Final = 20  # RFC 5280 section 4.1.2.2

_SHA256: Final = der.oid("2.16.840.1.101.3.4.2.1")
_BASIC_RESPONSE: Final = der.oid("1.3.6.1.5.5.7.48.1.1")
_NONCE: Final = der.oid("1.3.6.1.5.5.7.48.1.2")
# [0], [1] and [2] are EXPLICIT tags in TBSRequest; [0] is also that of the optional signature.
_VERSION_TAG: Final = 0xA0
_REQUESTOR_TAG: Final = 0xA1
_EXTENSIONS_TAG: Final = 0xA2
_TBS_ORDER: Final = (_VERSION_TAG, _REQUESTOR_TAG, der.SEQUENCE, _EXTENSIONS_TAG)
_V1: Final = der.explicit(0, der.integer(0))


class ErrorStatus(Enum):
    """OCSPResponseStatus values that are sent without a body (RFC 6960 section 4.2.1)."""

    malformedRequest = 1  # noqa: N815 -- the standard's spelling
    tryLater = 3  # noqa: N815
    unauthorized = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class CertID:
    """Which certificate is asked about; `der` is the CertID as it came, to be answered with the
    same bytes.
    """

    issuer_name_hash: bytes
    issuer_key_hash: bytes
    serial_number: int
    der: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class OCSPRequest:
    """A request that was read; `nonce` holds its octets, or None."""

    cert_ids: tuple[CertID, ...]
    nonce: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Good:
    """Issued by this CA and not revoked; a pending certificate, too, which carries no capability yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Revoked:
    """Revoked at that time, for that reason."""

    revoked_at: datetime
    reason: ReasonCode


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    """Not issued by this CA as far as it knows."""


CertStatus = Good | Revoked | Unknown


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuerHashes:
    """Hashes of an issuer's Name and key by which a CertID may name it."""

    pairs: frozenset[tuple[bytes, bytes]]


def issuer_hashes(issuer: x509.Certificate) -> IssuerHashes:
    """Compute both pairs of hashes of an issuing certificate.

    SHA-1 names an issuer here and proves nothing; RFC 5019 section 2.1.1 has clients use it.
    """
    name = issuer.subject.public_bytes()
    key = _key_bits(issuer)
    return IssuerHashes(
        pairs=frozenset(
            (
                (
                    hashlib.sha1(name, usedforsecurity=False).digest(),
                    hashlib.sha1(key, usedforsecurity=False).digest(),
                ),
                (hashlib.sha256(name).digest(), hashlib.sha256(key).digest()),
            )
        )
    )


def is_ours(cert_id: CertID, issuer: IssuerHashes) -> bool:
    """Return whether a CertID names this issuer."""
    return (cert_id.issuer_name_hash, cert_id.issuer_key_hash) in issuer.pairs


def parse_request(data: bytes) -> OCSPRequest:
    """Read an OCSPRequest (DER); BadInput names `ocsp_request` (the edge answers malformedRequest).

    OCSPRequest ::= SEQUENCE { tbsRequest TBSRequest, optionalSignature [0] OPTIONAL }
    TBSRequest  ::= SEQUENCE { version [0] DEFAULT v1, requestorName [1] OPTIONAL,
                               requestList SEQUENCE OF Request, requestExtensions [2] OPTIONAL }
    """
    if len(data) > MAX_REQUEST_BYTES:
        raise _malformed(f"{len(data)} bytes, at most {MAX_REQUEST_BYTES}")
    # OCSPRequest
    members = list(der.items(_content(data, der.SEQUENCE)))
    if not 1 <= len(members) <= 2 or (len(members) == 2 and members[1][0] != _VERSION_TAG):
        raise _malformed("not a TBSRequest and an optional signature")
    # TBSRequest
    parts = _tbs_request(members[0][1])
    if parts.get(_VERSION_TAG, _V1) != _V1:
        raise _malformed("the version is not v1")
    if der.SEQUENCE not in parts:
        raise _malformed("it asks about no certificate")
    nonce = _nonce(parts[_EXTENSIONS_TAG]) if _EXTENSIONS_TAG in parts else None
    return OCSPRequest(cert_ids=_cert_ids(parts[der.SEQUENCE]), nonce=nonce)


def _tbs_request(item: bytes) -> dict[int, der.DER]:
    """Return the members of TBSRequest by tag, each at most once and in order."""
    parts: dict[int, der.DER] = {}
    position = -1
    for tag, member in der.items(_content(item, der.SEQUENCE)):
        if tag not in _TBS_ORDER or _TBS_ORDER.index(tag) <= position:
            raise _malformed("the members of TBSRequest are out of order")
        position = _TBS_ORDER.index(tag)
        parts[tag] = member
    return parts


def _cert_ids(item: bytes) -> tuple[CertID, ...]:
    requests = list(der.items(_content(item, der.SEQUENCE)))
    if not 1 <= len(requests) <= MAX_CERT_IDS:
        raise _malformed(f"it asks about {len(requests)} certificates; 1 to {MAX_CERT_IDS} are allowed")
    return tuple(_cert_id(request) for _, request in requests)


def _cert_id(request: bytes) -> CertID:
    """Read a Request (DER); its extensions are ignored.

    Request ::= SEQUENCE { reqCert CertID, singleRequestExtensions [0] OPTIONAL }
    CertID  ::= SEQUENCE { hashAlgorithm, issuerNameHash OCTET STRING, issuerKeyHash OCTET STRING,
                           serialNumber }
    """
    members = list(der.items(_content(request, der.SEQUENCE)))
    if not members:
        raise _malformed("a Request is empty")
    parts = list(der.items(_content(members[0][1], der.SEQUENCE)))
    if len(parts) != 4:
        raise _malformed("a CertID does not have four members")
    # hashAlgorithm is not looked at: the two hashes say by their length which one it was (`is_ours`).
    serial = _content(parts[3][1], der.INTEGER)
    if not 1 <= len(serial) <= MAX_SERIAL_BYTES:
        raise _malformed("a serialNumber does not have 1 to 20 octets")
    return CertID(
        issuer_name_hash=_content(parts[1][1], der.OCTET_STRING),
        issuer_key_hash=_content(parts[2][1], der.OCTET_STRING),
        serial_number=int.from_bytes(serial, "big", signed=True),
        der=members[0][1],
    )


def _nonce(item: bytes) -> bytes | None:
    """Find the nonce among requestExtensions; an unknown critical extension makes the request malformed.

    Extension ::= SEQUENCE { extnID, critical BOOLEAN DEFAULT FALSE, extnValue OCTET STRING }
    """
    nonce: bytes | None = None
    for _, extension in der.items(_content(_content(item, _EXTENSIONS_TAG), der.SEQUENCE)):
        parts = list(der.items(_content(extension, der.SEQUENCE)))
        if not 2 <= len(parts) <= 3:
            raise _malformed("an Extension does not have two or three members")
        if parts[0][1] == _NONCE:
            if nonce is not None:
                raise _malformed("there are two nonces")
            # Nonce ::= OCTET STRING (RFC 9654), inside the one that wraps every extension's value.
            nonce = _content(_content(parts[-1][1], der.OCTET_STRING), der.OCTET_STRING)
        elif parts[1][1] == der.boolean_true():
            raise _malformed("a critical extension is unknown")
    if nonce is not None and not 1 <= len(nonce) <= MAX_NONCE_BYTES:
        raise _malformed(f"the nonce does not have 1 to {MAX_NONCE_BYTES} octets")
    return nonce


def decode_get(path: str) -> bytes:
    """Decode what follows the responder's URL in a GET: base64 of the request, percent-encoded or not (RFC
    6960 A.1).
    """
    # Clients differ: base64url or not, with padding or not, and a "+" that some server on the way turned into
    # a space. Each of them means the same octets.
    text = unquote(path).lstrip("/").replace("-", "+").replace("_", "/").replace(" ", "+")
    if len(text) > 2 * MAX_REQUEST_BYTES:
        raise _malformed("the path is too long")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError) as exc:
        raise _malformed("the path is not base64") from exc


def has_nonce_extension(data: bytes) -> bool:
    """Return whether a request (DER) may have a nonce, without reading it: its OID stands somewhere in it."""
    return data.find(_NONCE) >= 0


def status_tag(answer: bytes, cert_id: CertID) -> int | None:
    """Return the tag of the CertStatus that an answer of ours (DER) has for a certificate; None without one.

    SingleResponse has it right behind the CertID, which is the request's own bytes.
    """
    at = answer.find(cert_id.der)
    return None if at < 0 else answer[at + len(cert_id.der)]


def build_single_response(
    cert_id: CertID, status: CertStatus, *, this_update: datetime, next_update: datetime
) -> der.DER:
    """Write one SingleResponse (DER).

    SingleResponse ::= SEQUENCE { certID, certStatus, thisUpdate GeneralizedTime, nextUpdate [0] OPTIONAL }
    """
    return der.sequence(
        cert_id.der,
        _cert_status(status),
        der.generalized_time(this_update),
        der.explicit(0, der.generalized_time(next_update)),
    )


def _cert_status(status: CertStatus) -> der.DER:
    # CertStatus  ::= CHOICE { good [0] IMPLICIT NULL, revoked [1] IMPLICIT RevokedInfo,
    #                          unknown [2] IMPLICIT NULL }
    # RevokedInfo ::= SEQUENCE { revocationTime GeneralizedTime, revocationReason [0] EXPLICIT OPTIONAL }
    match status:
        case Good():
            return der.implicit(0, b"")
        case Revoked(revoked_at=revoked_at, reason=reason):
            code = b"" if reason is ReasonCode.unspecified else der.explicit(0, der.enumerated(reason))
            return der.explicit(1, der.generalized_time(revoked_at) + code)
        case Unknown():
            return der.implicit(2, b"")
        case _:
            assert_never(status)


def build_response_data(
    responses: Iterable[bytes], *, responder_key_hash: bytes, produced_at: datetime, nonce: bytes | None
) -> der.DER:
    """Write ResponseData (DER), which the responder signs; `responder_key_hash` is that of its certificate.

    ResponseData ::= SEQUENCE { version [0] DEFAULT v1, responderID, producedAt, responses, extensions [1] }
    ResponderID  ::= CHOICE { byName [1] Name, byKey [2] KeyHash }
    """
    extensions = b""
    if nonce is not None:
        value = der.octet_string(der.octet_string(nonce))
        extensions = der.explicit(1, der.sequence(der.sequence(_NONCE, value)))
    return der.sequence(
        der.explicit(2, der.octet_string(responder_key_hash)),
        der.generalized_time(produced_at),
        der.sequence_of(responses),
        extensions,
    )


def assemble_response(
    response_data: bytes,
    *,
    signature_algorithm_der: bytes,
    signature: bytes,
    responder_certificate_der: bytes,
) -> der.DER:
    """Write a successful OCSPResponse (DER) with the responder's certificate.

    OCSPResponse      ::= SEQUENCE { responseStatus, responseBytes [0] OPTIONAL }
    ResponseBytes     ::= SEQUENCE { responseType OBJECT IDENTIFIER, response OCTET STRING }
    BasicOCSPResponse ::= SEQUENCE { tbsResponseData, signatureAlgorithm, signature, certs [0] }
    """
    basic = der.sequence(
        response_data,
        signature_algorithm_der,
        der.bit_string(signature),
        der.explicit(0, der.sequence(responder_certificate_der)),
    )
    return der.sequence(
        der.enumerated(0), der.explicit(0, der.sequence(_BASIC_RESPONSE, der.octet_string(basic)))
    )


def error_response(status: ErrorStatus) -> der.DER:
    """Write an OCSPResponse (DER) without a body."""
    return der.sequence(der.enumerated(status.value))


def responder_key_hash(responder: x509.Certificate) -> bytes:
    """Return KeyHash of RFC 6960 section 4.2.1: SHA-1 of the responder's public key bits."""
    return hashlib.sha1(_key_bits(responder), usedforsecurity=False).digest()


def build_cert_id(issuer: x509.Certificate, serial_number: int) -> CertID:
    """Build the CertID (SHA-256) that a client would ask with."""
    name = hashlib.sha256(issuer.subject.public_bytes()).digest()
    key = hashlib.sha256(_key_bits(issuer)).digest()
    encoded = der.sequence(
        der.sequence(_SHA256), der.octet_string(name), der.octet_string(key), der.integer(serial_number)
    )
    return CertID(issuer_name_hash=name, issuer_key_hash=key, serial_number=serial_number, der=encoded)


def _key_bits(certificate: x509.Certificate) -> bytes:
    encoded = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    _, (_, bits) = der.items(der.expect(encoded, der.SEQUENCE, what="public_key"))
    return der.expect(bits, der.BIT_STRING, what="public_key")[1:]


def _content(data: bytes, tag: int) -> bytes:
    return der.expect(data, tag, what="ocsp_request")


def _malformed(why: str) -> BadInput:
    return BadInput(f"ocsp_request: {why}", field="ocsp_request")
