"""Answers that are kept: which, how many, and until when."""

from __future__ import annotations

import pytest
from cryptography import x509

from ca.certificates.crl import ReasonCode
from ca.certificates.kept_answers import ENTRY_BYTES, KeptAnswers, may_keep
from ca.certificates.ocsp import (
    CertStatus,
    ErrorStatus,
    Good,
    Revoked,
    Unknown,
    build_cert_id,
    build_response_data,
    build_single_response,
    error_response,
    parse_request,
)
from ostiary import der
from tests.support.ca_authority import AuthorityForTests
from tests.support.certificates import NOW

AUTHORITY = AuthorityForTests()
NONCE_OID = der.oid("1.3.6.1.5.5.7.48.1.2")


def request(*serials: int, nonce: bytes | None = None, issuer: x509.Certificate = AUTHORITY.issuing) -> bytes:
    asked = [der.sequence(build_cert_id(issuer, serial).der) for serial in serials]
    extensions = b""
    if nonce is not None:
        value = der.octet_string(der.octet_string(nonce))
        extensions = der.explicit(2, der.sequence(der.sequence(NONCE_OID, value)))
    return der.sequence(der.sequence(der.sequence(*asked), extensions))


def answer(request_der: bytes, status: CertStatus) -> bytes:
    responses = [
        build_single_response(cert_id, status, this_update=NOW, next_update=NOW)
        for cert_id in parse_request(request_der).cert_ids
    ]
    return build_response_data(responses, responder_key_hash=b"k" * 20, produced_at=NOW, nonce=None)


@pytest.mark.parametrize(
    ("status", "kept"),
    [(Good(), True), (Revoked(revoked_at=NOW, reason=ReasonCode.superseded), True), (Unknown(), False)],
)
def test_an_answer_is_kept_where_the_certificate_exists(status: CertStatus, kept: bool) -> None:
    asked = request(7)
    assert may_keep(asked, answer(asked, status)) is kept


def test_an_answer_is_not_kept_for_what_one_client_can_vary() -> None:
    with_nonce, of_two = request(7, nonce=b"n" * 16), request(7, 8)
    assert not may_keep(with_nonce, answer(with_nonce, Good()))
    assert not may_keep(of_two, answer(of_two, Good()))
    longer = request(7) + b"x" * 200
    assert not may_keep(longer, answer(request(7), Good()))


def test_an_error_is_not_kept() -> None:
    for status in ErrorStatus:
        assert not may_keep(request(7), error_response(status))
    assert not may_keep(b"0", error_response(ErrorStatus.malformedRequest))


def test_what_is_kept_has_a_bound_in_bytes_and_the_least_recently_used_goes_first() -> None:
    kept = KeptAnswers(max_bytes=int(3.5 * (ENTRY_BYTES + 1 + 100)))
    for name in (b"1", b"2", b"3"):
        kept.add(name, name * 100, until_ns=10)
    assert kept.find(b"1", 0) == b"1" * 100
    kept.add(b"4", b"4" * 100, until_ns=10)
    assert [kept.find(name, 0) is not None for name in (b"1", b"2", b"3", b"4")] == [True, False, True, True]
    assert kept.size_bytes == 3 * (ENTRY_BYTES + 1 + 100)
    kept.add(b"5", b"5" * 1000, until_ns=10)
    assert kept.find(b"5", 0) is not None
    assert kept.find(b"1", 0) is None
    kept.clear()
    assert (kept.size_bytes, kept.find(b"5", 0)) == (0, None)


def test_a_kept_answer_ends_with_its_time_and_is_replaced() -> None:
    kept = KeptAnswers(max_bytes=10_000)
    kept.add(b"1", b"old", until_ns=10)
    assert (kept.find(b"1", 9), kept.find(b"1", 10)) == (b"old", None)
    kept.add(b"1", b"newer", until_ns=20)
    assert (kept.find(b"1", 10), kept.size_bytes) == (b"newer", ENTRY_BYTES + 1 + 5)
