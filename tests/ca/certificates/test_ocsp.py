"""OCSP: requests of pyca and openssl are read, answers are verified by them; malformed bytes are refused one
way.
"""

from __future__ import annotations

import base64
import subprocess
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp as peer
from hypothesis import given
from hypothesis import strategies as st

from ca.certificates.crl import ReasonCode
from ca.certificates.ocsp import (
    MAX_CERT_IDS,
    MAX_REQUEST_BYTES,
    CertStatus,
    ErrorStatus,
    Good,
    OCSPRequest,
    Revoked,
    Unknown,
    assemble_response,
    build_cert_id,
    build_response_data,
    build_single_response,
    decode_get,
    error_response,
    is_ours,
    issuer_hashes,
    parse_request,
    responder_key_hash,
)
from ostiary import der
from ostiary.certificate import ECDSA_SHA256
from ostiary.errors import BadInput
from tests.support.ca_authority import RESPONDER_KEY, SERIAL, AuthorityForTests
from tests.support.need import require_tool

CA = AuthorityForTests(now=datetime.now(UTC).replace(microsecond=0))
LEAF, RESPONDER = CA.leaf(), CA.responder()
OTHER = CA.leaf(CA.plan(serial_number=99))
ISSUER = issuer_hashes(CA.issuing)
REVOKED_AT = CA.now - timedelta(minutes=5)


def answer(request: OCSPRequest, statuses: dict[int, CertStatus]) -> bytes:
    """Answer a request as a responder would, `Unknown` for what is not in the table."""
    responses = [
        build_single_response(
            cert_id,
            statuses.get(cert_id.serial_number, Unknown()),
            this_update=CA.now,
            next_update=CA.now + timedelta(hours=1),
        )
        for cert_id in request.cert_ids
    ]
    data = build_response_data(
        responses,
        responder_key_hash=responder_key_hash(RESPONDER),
        produced_at=CA.now,
        nonce=request.nonce,
    )
    return assemble_response(
        data,
        signature_algorithm_der=ECDSA_SHA256,
        signature=RESPONDER_KEY.sign(data, ec.ECDSA(hashes.SHA256())),
        responder_certificate_der=RESPONDER.public_bytes(Encoding.DER),
    )


def request_by_pyca(*, digest: hashes.HashAlgorithm | None = None, nonce: bytes | None = b"n" * 32) -> bytes:
    algorithm = digest or hashes.SHA1()  # noqa: S303
    builder = peer.OCSPRequestBuilder().add_certificate(LEAF, CA.issuing, algorithm)
    if nonce is not None:
        builder = builder.add_extension(x509.OCSPNonce(nonce), critical=False)
    return builder.build().public_bytes(Encoding.DER)


@pytest.mark.parametrize("digest", [hashes.SHA1(), hashes.SHA256()], ids=["SHA-1", "SHA-256"])  # noqa: S303
def test_a_request_of_pycas_is_read_and_answered(digest: hashes.HashAlgorithm) -> None:
    request = parse_request(request_by_pyca(digest=digest))
    assert request.nonce == b"n" * 32
    assert [cert_id.serial_number for cert_id in request.cert_ids] == [SERIAL]
    assert is_ours(request.cert_ids[0], ISSUER)
    assert not is_ours(request.cert_ids[0], issuer_hashes(CA.root))
    response = peer.load_der_ocsp_response(answer(request, {SERIAL: Good()}))
    assert response.response_status is peer.OCSPResponseStatus.SUCCESSFUL
    assert response.certificate_status is peer.OCSPCertStatus.GOOD
    assert response.serial_number == SERIAL
    assert response.responder_key_hash == responder_key_hash(RESPONDER)
    assert response.extensions.get_extension_for_class(x509.OCSPNonce).value.nonce == b"n" * 32
    assert response.this_update_utc == CA.now
    RESPONDER_KEY.public_key().verify(
        response.signature, response.tbs_response_bytes, ec.ECDSA(hashes.SHA256())
    )


@pytest.mark.parametrize("reason", ReasonCode)
def test_a_revoked_certificate_is_told_with_time_and_reason(reason: ReasonCode) -> None:
    request = parse_request(request_by_pyca(nonce=None))
    status = Revoked(revoked_at=REVOKED_AT, reason=reason)
    response = peer.load_der_ocsp_response(answer(request, {SERIAL: status}))
    assert response.certificate_status is peer.OCSPCertStatus.REVOKED
    assert response.revocation_time_utc == REVOKED_AT
    found = response.revocation_reason
    assert (found.value if found else "unspecified") == reason.name
    assert not list(response.extensions)


def test_an_unknown_certificate_is_unknown() -> None:
    response = peer.load_der_ocsp_response(answer(parse_request(request_by_pyca()), {}))
    assert response.certificate_status is peer.OCSPCertStatus.UNKNOWN


def test_a_single_response_is_that_of_pycas_builder() -> None:
    request = parse_request(request_by_pyca(nonce=None))
    theirs = (
        peer.OCSPResponseBuilder()
        .add_response(
            cert=LEAF,
            issuer=CA.issuing,
            algorithm=hashes.SHA1(),  # noqa: S303
            cert_status=peer.OCSPCertStatus.REVOKED,
            this_update=CA.now,
            next_update=CA.now + timedelta(hours=1),
            revocation_time=REVOKED_AT,
            revocation_reason=x509.ReasonFlags.key_compromise,
        )
        .responder_id(peer.OCSPResponderEncoding.HASH, RESPONDER)
        .sign(RESPONDER_KEY, hashes.SHA256())
    )
    single = build_single_response(
        request.cert_ids[0],
        Revoked(revoked_at=REVOKED_AT, reason=ReasonCode.keyCompromise),
        this_update=CA.now,
        next_update=CA.now + timedelta(hours=1),
    )
    ours = build_response_data(
        [single],
        responder_key_hash=responder_key_hash(RESPONDER),
        produced_at=theirs.produced_at_utc,
        nonce=None,
    )
    assert ours == theirs.tbs_response_bytes


@pytest.mark.parametrize("status", ErrorStatus)
def test_errors_are_bare_statuses(status: ErrorStatus) -> None:
    response = peer.load_der_ocsp_response(error_response(status))
    assert response.response_status.value == status.value


def test_our_own_cert_id_is_that_of_pyca() -> None:
    builder = peer.OCSPRequestBuilder().add_certificate(LEAF, CA.issuing, hashes.SHA256())
    theirs = parse_request(builder.build().public_bytes(Encoding.DER)).cert_ids[0]
    ours = build_cert_id(CA.issuing, SERIAL)
    assert (ours.issuer_name_hash, ours.issuer_key_hash, ours.serial_number) == (
        theirs.issuer_name_hash,
        theirs.issuer_key_hash,
        theirs.serial_number,
    )
    assert is_ours(ours, ISSUER)


@pytest.mark.parametrize(
    "spell", [lambda text: text, quote, lambda text: quote(text, safe=""), lambda text: "/" + text]
)
def test_get_carries_base64_in_the_path(spell: object) -> None:
    request = request_by_pyca()
    text = base64.b64encode(request).decode()
    assert decode_get(spell(text)) == request  # type: ignore[operator]
    assert decode_get(base64.urlsafe_b64encode(request).decode().rstrip("=")) == request


def one_request(serial_number: int = 5) -> der.DER:
    return der.sequence(build_cert_id(CA.issuing, serial_number).der)


def ocsp_request(*members: bytes) -> bytes:
    return der.sequence(der.sequence(*members))


LIST = der.sequence(one_request())
NONCE = der.oid("1.3.6.1.5.5.7.48.1.2")


def nonce(size: int) -> der.DER:
    value = der.octet_string(der.octet_string(bytes(size)))
    return der.explicit(2, der.sequence(der.sequence(NONCE, value)))


def test_every_optional_member_is_read() -> None:
    requestor = der.explicit(1, der.explicit(4, CA.root.subject.public_bytes()))
    extended = der.sequence(build_cert_id(CA.issuing, 6).der, der.explicit(0, der.sequence()))
    members = (der.explicit(0, der.integer(0)), requestor, der.sequence(one_request(), extended), nonce(1))
    request = parse_request(der.sequence(der.sequence(*members), der.explicit(0, der.sequence())))
    assert [cert_id.serial_number for cert_id in request.cert_ids] == [5, 6]
    assert request.nonce == b"\x00"


MALFORMED = {
    "nothing": b"",
    "too large": bytes(MAX_REQUEST_BYTES + 1),
    "no certificate": ocsp_request(der.sequence()),
    "no list": ocsp_request(nonce(4)),
    "too many certificates": ocsp_request(der.sequence_of([one_request()] * (MAX_CERT_IDS + 1))),
    "version 2": ocsp_request(der.explicit(0, der.integer(1)), LIST),
    "list twice": ocsp_request(LIST, LIST),
    "version after list": ocsp_request(LIST, der.explicit(0, der.integer(0))),
    "empty nonce": ocsp_request(LIST, nonce(0)),
    "nonce of 129": ocsp_request(LIST, nonce(129)),
    "critical extension": ocsp_request(
        LIST,
        der.explicit(
            2, der.sequence(der.sequence(der.oid("1.2.3"), der.boolean_true(), der.octet_string(b"")))
        ),
    ),
    "serial of 21 octets": ocsp_request(der.sequence(one_request(1 << 161))),
    "trailing octet": ocsp_request(LIST) + b"\x00",
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_request_is_refused(case: str) -> None:
    with pytest.raises(BadInput):
        parse_request(MALFORMED[case])


@given(st.binary(max_size=120))
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(BadInput):
        parse_request(data)


GOOD_REQUEST = request_by_pyca()


@given(st.integers(0, len(GOOD_REQUEST) - 1), st.integers(1, 255))
def test_a_changed_octet_never_fails_in_another_way(position: int, change: int) -> None:
    broken = bytearray(GOOD_REQUEST)
    broken[position] ^= change
    try:
        request = parse_request(bytes(broken))
    except BadInput:
        return
    assert request.cert_ids


@pytest.mark.parametrize("path", ["", "!!!!", "a" * 40_000, "ä"])
def test_a_path_that_is_not_a_request_is_refused(path: str) -> None:
    with pytest.raises(BadInput):
        parse_request(decode_get(path))


class TinyResponder(BaseHTTPRequestHandler):
    """Answers POST as the status service will; OTHER is revoked."""

    requests: ClassVar[list[OCSPRequest]] = []

    def do_POST(self) -> None:
        request = parse_request(self.rfile.read(int(self.headers["Content-Length"])))
        self.requests.append(request)
        revoked = Revoked(revoked_at=REVOKED_AT, reason=ReasonCode.keyCompromise)
        body = answer(request, {SERIAL: Good(), 99: revoked})
        self.send_response(200)
        self.send_header("Content-Type", "application/ocsp-response")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the base class's name
        """Stay silent."""


@pytest.fixture
def responder_url() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), TinyResponder) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/ocsp"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("option", ["-nonce", "-no_nonce", "-sha256"])
def test_openssl_asks_about_two_certificates_and_verifies_the_answer(
    tmp_path: Path, responder_url: str, option: str
) -> None:
    for name, certificate in (("root", CA.root), ("issuing", CA.issuing), ("leaf", LEAF), ("other", OTHER)):
        (tmp_path / f"{name}.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    command = [require_tool("openssl"), "ocsp", "-issuer", "issuing.pem", "-url", responder_url, option]
    command += ["-CAfile", "root.pem", "-verify_other", "issuing.pem", "-cert", "leaf.pem"]
    command += [option] * (option == "-sha256") + ["-cert", "other.pem"]
    read = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "Response verify OK" in read.stderr
    assert "WARNING: no nonce" not in read.stderr
    assert "leaf.pem: good" in read.stdout
    assert "other.pem: revoked" in read.stdout
    assert "Reason: keyCompromise" in read.stdout
    request = TinyResponder.requests[-1]
    assert all(is_ours(cert_id, ISSUER) for cert_id in request.cert_ids)
    assert (request.nonce is None) == (option == "-no_nonce")
