"""OCSP responders of others: `openssl ocsp`, which signs each answer, and CFSSL's `ocspserve`, which has
them all made before.

Both know COUNT certificates of a CA of their own. `openssl ocsp` closes each connection after its answer.
"""

from __future__ import annotations

import base64
import datetime as dt
import os
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509 import ocsp

from benchmarks.load import SECONDS, Load, Measured, request_bytes, run_load
from benchmarks.peers.server import Server
from benchmarks.peers.step_ca import authority_certificate
from ostiary.certificate import SerialHex
from tests.support.ca_service import new_key

COUNT = 1000
OCSP_TYPE = "application/ocsp-request"
NONCE_BYTES = 16


class Responder(Server):
    """A responder of a CA that exists here only."""

    path = "/"

    def __init__(self, program: Path) -> None:
        super().__init__()
        self._program = str(program)
        self._key = new_key()
        self._certificate_pem = authority_certificate("Issuing", self._key, "Issuing", self._key)
        self.issuing = x509.load_pem_x509_certificate(self._certificate_pem)
        self._serials = [SerialHex(f"{0x7000 + number:040x}") for number in range(COUNT)]

    def ask(self, *, clients: int, per_connection: int, has_nonce: bool) -> Measured:
        """Ask about all certificates, over and over."""
        return run_load(
            ocsp_load(
                self.address,
                self.path,
                questions(self.issuing, self._serials, has_nonce=has_nonce),
                clients=clients,
                per_connection=per_connection,
            ),
            cpu=self.cpu,
        )


class OpenSSLResponder(Responder):
    """`openssl ocsp` with a process for each of this machine's cores."""

    name = "openssl ocsp"

    def prepare(self) -> None:
        secret = self._key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
        (self.folder / "ca.pem").write_bytes(self._certificate_pem)
        (self.folder / "ca.key").write_bytes(secret)
        ends = (dt.datetime.now(dt.UTC) + dt.timedelta(days=1)).strftime("%y%m%d%H%M%SZ")
        # openssl-ca(1), "-gencrl" and the index: status, end, revocation, serial, file, subject.
        lines = [f"V\t{ends}\t\t{serial.upper()}\tunknown\t/CN={serial}\n" for serial in self._serials]
        (self.folder / "index.txt").write_text("".join(lines))

    def command(self) -> Sequence[str]:
        return [
            *(self._program, "ocsp", "-port", str(self.address[1]), "-index", "index.txt", "-CA", "ca.pem"),
            *("-rsigner", "ca.pem", "-rkey", "ca.key", "-nmin", "10", "-ignore_err"),
            *("-multi", str(os.cpu_count() or 1)),
        ]


class CFSSLResponder(Responder):
    """CFSSL's `ocspserve`."""

    name = "cfssl ocspserve"

    def prepare(self) -> None:
        made = b"".join(base64.b64encode(self._answer(serial)) + b"\n" for serial in self._serials)
        (self.folder / "responses").write_bytes(made)

    def command(self) -> Sequence[str]:
        return [
            *(self._program, "ocspserve", "-address", self.address[0], "-port", str(self.address[1])),
            *("-responses", "responses"),
        ]

    def _answer(self, serial: SerialHex) -> bytes:
        now = dt.datetime.now(dt.UTC).replace(tzinfo=None)
        name, key = _issuer_hashes(self.issuing, hashes.SHA1())  # noqa: S303 - as clients name an issuer
        builder = ocsp.OCSPResponseBuilder().add_response_by_hash(
            issuer_name_hash=name,
            issuer_key_hash=key,
            serial_number=int(serial, 16),
            algorithm=hashes.SHA1(),  # noqa: S303
            cert_status=ocsp.OCSPCertStatus.GOOD,
            this_update=now,
            next_update=now + dt.timedelta(days=1),
            revocation_time=None,
            revocation_reason=None,
        )
        signed = builder.responder_id(ocsp.OCSPResponderEncoding.HASH, self.issuing).sign(
            self._key, hashes.SHA256()
        )
        return signed.public_bytes(Encoding.DER)


def questions(
    issuing: x509.Certificate, serials: Sequence[SerialHex], *, has_nonce: bool, count: int = COUNT
) -> list[bytes]:
    """Return OCSPRequests (DER) about the certificates in turn, each with a nonce of its own if they have."""
    return [
        _question(issuing, serials[number % len(serials)], has_nonce=has_nonce) for number in range(count)
    ]


def _question(issuing: x509.Certificate, serial: SerialHex, *, has_nonce: bool) -> bytes:
    name, key = _issuer_hashes(issuing, hashes.SHA1())  # noqa: S303 - as RFC 5019 section 2.1.1 wants it
    builder = ocsp.OCSPRequestBuilder().add_certificate_by_hash(name, key, int(serial, 16), hashes.SHA1())  # noqa: S303
    if has_nonce:
        builder = builder.add_extension(x509.OCSPNonce(os.urandom(NONCE_BYTES)), critical=False)
    return builder.build().public_bytes(Encoding.DER)


def _issuer_hashes(issuing: x509.Certificate, algorithm: hashes.HashAlgorithm) -> tuple[bytes, bytes]:
    key = issuing.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    bits = key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    found = []
    for hashed in (issuing.subject.public_bytes(), bits):
        digest = hashes.Hash(algorithm)
        digest.update(hashed)
        found.append(digest.finalize())
    return found[0], found[1]


def ocsp_load(
    address: tuple[str, int], path: str, asked: Sequence[bytes], *, clients: int, per_connection: int
) -> Load:
    """Return the load of these questions by POST; `per_connection` 0 keeps connections."""
    return Load(
        address=address,
        requests=[request_bytes("POST", path, each, host="status", content_type=OCSP_TYPE) for each in asked],
        repeats=True,
        connections=clients,
        per_connection=per_connection,
        # A responder that closes its connection after each answer closes it in the warm-up too.
        is_patient=per_connection > 0,
        seconds=SECONDS,
    )
