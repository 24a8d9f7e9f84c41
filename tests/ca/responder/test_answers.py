"""OCSP answers as pyca/cryptography reads them; good becomes revoked as soon as the feed moves, kept answers
or not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from ca.certificates.crl import ReasonCode
from ca.certificates.kept_answers import MAX_KEPT_REQUEST_BYTES
from ca.certificates.ocsp import CertStatus, Good, Revoked
from ca.responder.answers import Answers, ResponderKey
from ostiary import der
from ostiary.errors import Busy
from tests.support.ca_authority import RESPONDER_KEY, AuthorityForTests
from tests.support.certificates import NOW
from tests.support.still_clock import ClockForTests

AUTHORITY = AuthorityForTests()
LEAF = AUTHORITY.leaf()
OTHER = AUTHORITY.leaf(AUTHORITY.plan(serial_number=0x7777))


class StatusesForTests:
    def __init__(self) -> None:
        self.known: dict[str, CertStatus] = {_hex(LEAF): Good()}
        self.newest = 0
        self.reads = 0
        self.is_away = False

    def statuses(self, serials: Sequence[str]) -> Mapping[str, CertStatus]:
        self.reads += 1
        if self.is_away:
            raise Busy("the store can't be read now")
        return {serial: self.known[serial] for serial in serials if serial in self.known}

    def last_revocation(self) -> int:
        return self.newest

    def revoke(self, serial: str) -> None:
        self.known[serial] = Revoked(revoked_at=NOW, reason=ReasonCode.keyCompromise)
        self.newest += 1


def one(answers: Answers, request_der: bytes) -> bytes:
    """Return the answer to a request that waits alone."""
    (answer,) = answers.answer([request_der])
    return answer


def _hex(certificate: x509.Certificate) -> str:
    number = certificate.serial_number
    return number.to_bytes((number.bit_length() + 7) // 8, "big").hex()


@pytest.fixture
def store() -> StatusesForTests:
    return StatusesForTests()


@pytest.fixture
def answers(store: StatusesForTests) -> Answers:
    key = ResponderKey(key=RESPONDER_KEY, certificate=AUTHORITY.responder())
    answers = Answers(AUTHORITY.issuing, store, ClockForTests(), key)
    answers.look()
    return answers


def request(
    certificate: x509.Certificate, *, nonce: bytes | None = None, issuer: x509.Certificate = AUTHORITY.issuing
) -> bytes:
    sha1 = hashes.SHA1()  # noqa: S303 - clients send it
    builder = ocsp.OCSPRequestBuilder().add_certificate(certificate, issuer, sha1)
    if nonce is not None:
        builder = builder.add_extension(x509.OCSPNonce(nonce), critical=False)
    return builder.build().public_bytes(Encoding.DER)


def test_good_with_nonce_and_a_signature_that_verifies(answers: Answers) -> None:
    response = ocsp.load_der_ocsp_response(one(answers, request(LEAF, nonce=b"n" * 16)))
    assert response.certificate_status is ocsp.OCSPCertStatus.GOOD
    assert response.extensions.get_extension_for_class(x509.OCSPNonce).value.nonce == b"n" * 16
    RESPONDER_KEY.public_key().verify(
        response.signature, response.tbs_response_bytes, ec.ECDSA(hashes.SHA256())
    )
    assert response.next_update_utc == NOW + timedelta(minutes=10)


def test_what_was_never_issued_is_unknown_and_not_kept(answers: Answers, store: StatusesForTests) -> None:
    asked = request(OTHER)
    first = ocsp.load_der_ocsp_response(one(answers, asked))
    assert first.certificate_status is ocsp.OCSPCertStatus.UNKNOWN
    store.known[_hex(OTHER)] = Good()
    second = ocsp.load_der_ocsp_response(one(answers, asked))
    assert second.certificate_status is ocsp.OCSPCertStatus.GOOD


def test_a_kept_answer_is_forgotten_when_the_feed_moves(answers: Answers, store: StatusesForTests) -> None:
    asked = request(LEAF)
    assert one(answers, asked) == one(answers, asked)
    assert store.reads == 1
    store.revoke(_hex(LEAF))
    answers.look()
    response = ocsp.load_der_ocsp_response(one(answers, asked))
    assert response.certificate_status is ocsp.OCSPCertStatus.REVOKED
    assert response.revocation_reason is x509.ReasonFlags.key_compromise


def test_a_nonce_is_always_answered_afresh(answers: Answers, store: StatusesForTests) -> None:
    asked = request(LEAF, nonce=b"n" * 16)
    one(answers, asked)
    one(answers, asked)
    assert store.reads == 2


def test_requests_that_wait_together_share_one_read(answers: Answers, store: StatusesForTests) -> None:
    store.known[_hex(OTHER)] = Good()
    together = [request(LEAF), request(OTHER, nonce=b"n" * 16), b"\x30\x00", request(LEAF, nonce=b"m")]
    found = [ocsp.load_der_ocsp_response(answer) for answer in answers.answer(together)]
    assert store.reads == 1
    assert [response.response_status.name for response in found] == [
        "SUCCESSFUL",
        "SUCCESSFUL",
        "MALFORMED_REQUEST",
        "SUCCESSFUL",
    ]
    serials = [found[position].serial_number for position in (0, 1, 3)]
    assert serials == [LEAF.serial_number, OTHER.serial_number, LEAF.serial_number]


def test_while_the_store_is_away_only_what_needs_no_read_is_answered(
    answers: Answers, store: StatusesForTests
) -> None:
    kept = one(answers, request(LEAF))
    store.is_away = True
    together = answers.answer([request(LEAF), request(LEAF, nonce=b"n"), b"\x30\x00"])
    assert together[0] == kept
    assert ocsp.load_der_ocsp_response(together[1]).response_status is ocsp.OCSPResponseStatus.TRY_LATER
    assert (
        ocsp.load_der_ocsp_response(together[2]).response_status is ocsp.OCSPResponseStatus.MALFORMED_REQUEST
    )


def test_what_one_client_can_ask_in_many_ways_is_not_kept(answers: Answers, store: StatusesForTests) -> None:
    """A requestor's name changes the request and not the answer, and certificates can be put together at
    will.
    """
    store.known[_hex(OTHER)] = Good()
    named = with_requestor(request(LEAF), "x" * MAX_KEPT_REQUEST_BYTES)
    assert ocsp.load_der_ocsp_response(one(answers, named)).certificate_status is ocsp.OCSPCertStatus.GOOD
    both = together(request(LEAF), request(OTHER))
    assert len(list(ocsp.load_der_ocsp_response(one(answers, both)).responses)) == 2
    for again in (named, both):
        reads = store.reads
        one(answers, again)
        assert store.reads == reads + 1


def with_requestor(request_der: bytes, name: str) -> bytes:
    """The same request with a requestorName (a directoryName is no check of ours, so a dNSName will do)."""
    (tbs,) = contents(request_der)
    requestor = der.explicit(1, der.implicit(2, name.encode()))
    return der.sequence(der.sequence(requestor, *contents(tbs)))


def together(*requests_der: bytes) -> bytes:
    """One request about the certificates of several."""
    lists = [contents(contents(request_der)[0])[0] for request_der in requests_der]
    return der.sequence(der.sequence(der.sequence(*(each for one in lists for each in contents(one)))))


def contents(data: bytes) -> list[bytes]:
    """The members of a SEQUENCE (DER)."""
    return [member for _, member in der.items(der.expect(data, der.SEQUENCE, what="test"))]


def test_another_issuer_is_unauthorized_and_rubbish_malformed(answers: Answers) -> None:
    foreign = AuthorityForTests()
    answer = ocsp.load_der_ocsp_response(one(answers, request(foreign.leaf(), issuer=foreign.issuing)))
    assert answer.response_status is ocsp.OCSPResponseStatus.UNAUTHORIZED
    rubbish = ocsp.load_der_ocsp_response(one(answers, b"\x30\x00"))
    assert rubbish.response_status is ocsp.OCSPResponseStatus.MALFORMED_REQUEST
