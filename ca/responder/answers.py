"""OCSP answers: the statuses that a request asks for, read from the store and signed by the responder's own
key.

Rules:
- The status is read by serial number when it is asked for; a certificate that was never issued is unknown.
- The answer to a request with a nonce is always signed afresh. Others are kept for KEEP_S at most, and all
  are forgotten as soon as the feed of revocations has moved. The loop looks at it every LOOK_S, so a
  revocation shows within that time.
- Answers about an unknown certificate are not kept: it may be issued the next moment.
- A broken request gets malformedRequest, a foreign CertID unauthorized: unsigned, as RFC 6960 section 2.3 has
  it.

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
from ostiary.certificate import ECDSA_SHA256, SerialHex, serial_hex
from ostiary.edge.clock import Clock
from ostiary.errors import BadInput

KEEP_S: Final = 60
LOOK_S: Final = 0.2
# With request and answer (1.1 kB with the responder's certificate) about 15 MB.
MAX_KEPT: Final = 10_000
# nextUpdate: how long a client may keep an answer. Longer than KEEP_S, so a kept answer is never given out
# stale.
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
        # The feed's newest step when `look` last looked; None before.
        self._feed: int | None = None
        self.sign_with(key)

    def sign_with(self, key: ResponderKey) -> None:
        """Sign with this key from now on."""
        self._key = key
        self._key_hash = responder_key_hash(key.certificate)
        self._certificate_der = key.certificate.public_bytes(Encoding.DER)
        self._kept.clear()

    def look(self) -> None:
        """Forget all kept answers if something was revoked; must be called every LOOK_S."""
        newest = self._reader.last_revocation()
        if newest != self._feed:
            self._kept.clear()
            self._feed = newest

    def answer(self, request_der: bytes) -> bytes:
        """The OCSPResponse (DER) to an OCSPRequest (DER).

        1. A kept answer to the same bytes, if there is one.
        2. The request parses, and asks about our certificates only.
        3. Read the statuses, and sign.
        4. Keep the answer where that is allowed.
        """
        # 1.
        kept = self._kept.get(request_der)
        if kept is not None and self._clock.monotonic_ns() < kept[1]:
            return kept[0]
        # 2.
        try:
            request = parse_request(request_der)
        except BadInput:
            return error_response(ErrorStatus.malformedRequest)
        if not all(is_ours(cert_id, self._issuer) for cert_id in request.cert_ids):
            return error_response(ErrorStatus.unauthorized)
        # 3. thisUpdate is now: the store was read now.
        found = self._statuses(request.cert_ids)
        answer = self._signed(request, found, self._clock.now().replace(microsecond=0))
        # 4.
        if request.nonce is None and not any(isinstance(status, Unknown) for status in found):
            self._keep(request_der, answer)
        return answer

    def _statuses(self, cert_ids: Sequence[CertID]) -> list[CertStatus]:
        serials = [_serial(cert_id) for cert_id in cert_ids]
        known = self._reader.statuses([serial for serial in serials if serial is not None])
        return [known.get(serial, Unknown()) if serial is not None else Unknown() for serial in serials]

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


def _serial(cert_id: CertID) -> SerialHex | None:
    """The serial number as rows have it; None for one that no certificate of ours can have."""
    return serial_hex(cert_id.serial_number) if cert_id.serial_number > 0 else None
