"""OCSP answers: the statuses that a request asks for, read from the store and signed by the responder's own
key.

Rules:
- The status is read by serial number when it is asked for; a certificate that was never issued is unknown.
- Requests that wait together share one read of the store.
- Answers are kept for KEEP_S at most, and all are forgotten as soon as the feed of revocations has moved. The
  loop looks at it every LOOK_S, so a revocation shows within that time.
- What is kept (ca/certificates/kept_answers.py says which answers) has at most MAX_KEPT_BYTES.
- A broken request gets malformedRequest, a foreign CertID unauthorized: unsigned, as RFC 6960 section 2.3 has
  it.

Owner: the responder's one thread. Standard: RFC 6960, bytes in ca/certificates/ocsp.py.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from ca.certificates.kept_answers import KeptAnswers, may_keep
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
from ostiary.errors import BadInput, Busy

_log = logging.getLogger("ostiary.ca.responder")
KEEP_S: Final = 60
LOOK_S: Final = 0.2
# About 20,000 answers: one has 1.1 kB with the responder's certificate.
MAX_KEPT_BYTES: Final = 32 << 20
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
        self._kept = KeptAnswers(max_bytes=MAX_KEPT_BYTES)
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

    def answer(self, requests_der: Sequence[bytes]) -> list[bytes]:
        """Return the OCSPResponse (DER) to each OCSPRequest (DER).

        1. A kept answer to the same bytes, if there is one.
        2. The request parses, and asks about our certificates only.
        3. Read the statuses of all that is left, and sign; tryLater where the store can't be read.
        4. Keep the answer where that is allowed.
        """
        now_ns = self._clock.monotonic_ns()
        # 1. and 2.
        first: list[bytes | OCSPRequest] = [
            self._kept.find(request_der, now_ns) or self._read(request_der) for request_der in requests_der
        ]
        # 3. thisUpdate is now: the store is read now.
        now = self._clock.now().replace(microsecond=0)
        known = self._statuses([one for one in first if isinstance(one, OCSPRequest)])
        answers = []
        for request_der, one in zip(requests_der, first, strict=True):
            if isinstance(one, bytes):
                answers.append(one)
                continue
            if known is None:
                answers.append(_TRY_LATER)
                continue
            found = [_status(known, cert_id) for cert_id in one.cert_ids]
            answer = self._signed(one, found, now)
            # 4.
            if may_keep(request_der, answer):
                self._kept.add(request_der, answer, until_ns=now_ns + KEEP_S * 1_000_000_000)
            answers.append(answer)
        return answers

    def _read(self, request_der: bytes) -> OCSPRequest | bytes:
        """Return the request, or what to answer to one that is wrong."""
        try:
            request = parse_request(request_der)
        except BadInput:
            return _MALFORMED
        if not all(is_ours(cert_id, self._issuer) for cert_id in request.cert_ids):
            return _UNAUTHORIZED
        return request

    def _statuses(self, requests: Sequence[OCSPRequest]) -> Mapping[str, CertStatus] | None:
        serials = {serial for request in requests for serial in map(_serial, request.cert_ids) if serial}
        if not serials:
            return {}
        try:
            return self._reader.statuses(list(serials))
        except Busy as exc:
            _log.warning("store-unreadable", extra={"problem": exc.message})
            return None

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


def _status(known: Mapping[str, CertStatus], cert_id: CertID) -> CertStatus:
    serial = _serial(cert_id)
    return Unknown() if serial is None else known.get(serial, Unknown())


def _serial(cert_id: CertID) -> SerialHex | None:
    """The serial number as rows have it; None for one that no certificate of ours can have."""
    return serial_hex(cert_id.serial_number) if cert_id.serial_number > 0 else None


_TRY_LATER: Final = error_response(ErrorStatus.tryLater)
_MALFORMED: Final = error_response(ErrorStatus.malformedRequest)
_UNAUTHORIZED: Final = error_response(ErrorStatus.unauthorized)
