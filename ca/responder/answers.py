"""OCSP answers: what a request asks, what the store says, signed by the responder's own key.

Rules:
- Status is read by serial number when it is asked for; what was never issued is unknown.
- A request with a nonce is always signed afresh. Others are kept for KEEP_S at most, and all are forgotten as
  soon as the feed of revocations has moved, which is looked at every LOOK_S: a revocation shows within that
  time.
- Answers with an unknown certificate are not kept: it may be issued the next moment.
- A broken request gets malformedRequest, a foreign CertID unauthorized: unsigned, as the standard has it.

Owner: the responder's one thread. Standard: RFC 6960, bytes in ca/certificates/ocsp.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from ca.certificates.ocsp import (
    CertID,
    CertStatus,
    ErrorStatus,
    IssuerHashes,
    OCSPRequest,
    Unknown,
    assemble_response,
    build_response_data,
    build_single_response,
    error_response,
    is_ours,
    issuer_hashes,
    parse_request,
    responder_key_hash,
)
from ostiary.certificate import ECDSA_SHA256, serial_hex
from ostiary.edge.clock import Clock
from ostiary.errors import BadInput

KEEP_S: Final = 60
LOOK_S: Final = 0.2
MAX_KEPT: Final = 10_000
VALIDITY: Final = timedelta(minutes=10)


class StatusReader(Protocol):
    """The store's rows by index; each answer is of a state that was committed before it was asked."""

    def statuses(self, serials: Sequence[str]) -> Mapping[str, CertStatus]: ...

    def last_revocation(self) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponderKey:
    """A key with its certificate."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    def sign(self, response_data: bytes) -> bytes:
        return self.key.sign(response_data, ec.ECDSA(hashes.SHA256()))


class Answers:
    """Answers requests."""

    def __init__(
        self, issuing: x509.Certificate, reader: StatusReader, clock: Clock, key: ResponderKey
    ) -> None:
        self._issuer: IssuerHashes = issuer_hashes(issuing)
        self._reader = reader
        self._clock = clock
        # request bytes -> (answer, until, monotonic ns)
        self._kept: dict[bytes, tuple[bytes, int]] = {}
        self._feed = -1
        self.sign_with(key)

    def sign_with(self, key: ResponderKey) -> None:
        """Sign with this key from now on."""
        self._key = key
        self._key_hash = responder_key_hash(key.certificate)
        self._certificate_der = key.certificate.public_bytes(Encoding.DER)
        self._kept.clear()

    def look(self) -> None:
        """Forget what was kept if something was revoked; call every LOOK_S, and only then keep anything."""
        newest = self._reader.last_revocation()
        if newest != self._feed:
            self._kept.clear()
            self._feed = newest

    def answer(self, request_der: bytes) -> bytes:
        """The OCSPResponse (DER) to an OCSPRequest (DER)."""
        kept = self._kept.get(request_der)
        if kept is not None and self._clock.monotonic_ns() < kept[1]:
            return kept[0]
        try:
            request = parse_request(request_der)
        except BadInput:
            return error_response(ErrorStatus.malformedRequest)
        if not all(is_ours(cert_id, self._issuer) for cert_id in request.cert_ids):
            return error_response(ErrorStatus.unauthorized)
        found = self._statuses(request.cert_ids)
        answer = self._signed(request, found, self._clock.now().replace(microsecond=0))
        if request.nonce is None and not any(isinstance(status, Unknown) for status in found):
            self._keep(request_der, answer)
        return answer

    def _statuses(self, cert_ids: Sequence[CertID]) -> list[CertStatus]:
        serials = [_serial(cert_id) for cert_id in cert_ids]
        known = self._reader.statuses([serial for serial in serials if serial])
        return [known.get(serial, Unknown()) for serial in serials]

    def _signed(self, request: OCSPRequest, found: Sequence[CertStatus], now: datetime) -> bytes:
        responses = [
            build_single_response(cert_id, status, this_update=now, next_update=now + VALIDITY)
            for cert_id, status in zip(request.cert_ids, found, strict=True)
        ]
        data = build_response_data(
            responses, responder_key_hash=self._key_hash, produced_at=now, nonce=request.nonce
        )
        return assemble_response(
            data,
            signature_algorithm_der=ECDSA_SHA256,
            signature=self._key.sign(data),
            responder_certificate_der=self._certificate_der,
        )

    def _keep(self, request_der: bytes, answer: bytes) -> None:
        if len(self._kept) >= MAX_KEPT:
            self._kept.clear()
        self._kept[request_der] = (answer, self._clock.monotonic_ns() + KEEP_S * 1_000_000_000)


def _serial(cert_id: CertID) -> str:
    """The serial number as rows have it; "" for one that no certificate of ours can have."""
    return serial_hex(cert_id.serial_number) if cert_id.serial_number > 0 else ""
