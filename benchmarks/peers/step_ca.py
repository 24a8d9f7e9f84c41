"""step-ca: certificates for agents, each with a one-time token of a provisioner.

The token's signer stands where our manager stands: it may have a certificate made for another. Like ours, a
certificate is stored, on disk, before it is answered, and a token is good once.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import json
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from benchmarks.load import SECONDS, Load, Measured, request_bytes, run_load
from benchmarks.peers.server import NODE, Server
from tests.support.ca_service import new_key
from tests.support.pki import common_name

_PROVISIONER: Final = "manager"
_VALID: Final = dt.timedelta(days=1)


class StepCA(Server):
    """One step-ca."""

    name = "step-ca"

    def __init__(self, program: Path) -> None:
        super().__init__()
        self._program = program
        self._provisioner = new_key()
        root_key, issuing_key = new_key(), new_key()
        self._root = authority_certificate("Root", root_key, "Root", root_key)
        self._issuing = authority_certificate("Issuing", issuing_key, "Root", root_key)
        self._issuing_key = issuing_key

    def prepare(self) -> None:
        secret = self._issuing_key.private_bytes(
            Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()
        )
        (self.folder / "root.pem").write_bytes(self._root)
        (self.folder / "issuing.pem").write_bytes(self._issuing)
        (self.folder / "issuing.key").write_bytes(secret)
        jwk = public_jwk(self._provisioner)
        settings = {
            "root": str(self.folder / "root.pem"),
            "crt": str(self.folder / "issuing.pem"),
            "key": str(self.folder / "issuing.key"),
            "address": f"{self.address[0]}:{self.address[1]}",
            "dnsNames": [NODE],
            "logger": {"format": "text"},
            "db": {"type": "badgerv2", "dataSource": str(self.folder / "db")},
            "authority": {
                "claims": {"minTLSCertDuration": "5m", "defaultTLSCertDuration": "2h"},
                "provisioners": [{"type": "JWK", "name": _PROVISIONER, "key": jwk}],
            },
            "tls": {"minVersion": 1.3, "maxVersion": 1.3},
        }
        (self.folder / "ca.json").write_text(json.dumps(settings))

    def command(self) -> Sequence[str]:
        return [str(self._program), "ca.json"]

    def issue(self, *, clients: int, count: int, seconds: float = SECONDS) -> Measured:
        """Have certificates made with so many clients; `count` requests are made beforehand."""
        return run_load(
            Load(
                address=self.address,
                server_name=NODE,
                root_pem=self._root,
                requests=[self._request() for _ in range(count)],
                connections=clients,
                seconds=seconds,
            ),
            cpu=self.cpu,
        )

    def _request(self) -> bytes:
        name = f"{uuid.uuid4()}.n1.nodes.shop.example"
        body = {"csr": csr_pem(name), "ott": self._token(name)}
        return request_bytes(
            "POST", "/1.0/sign", json.dumps(body).encode(), host=NODE, content_type="application/json"
        )

    def _token(self, name: str) -> str:
        """A one-time token (RFC 7519, ES256) for a certificate with this name."""
        now_s = int(time.time())
        header = {"alg": "ES256", "typ": "JWT", "kid": public_jwk(self._provisioner)["kid"]}
        claims = {
            "iss": _PROVISIONER,
            "aud": f"https://{NODE}/1.0/sign",
            "sub": name,
            "sans": [name],
            "iat": now_s,
            "nbf": now_s - 10,
            "exp": now_s + 300,
            "jti": uuid.uuid4().hex,
        }
        signed = f"{_encoded(json.dumps(header).encode())}.{_encoded(json.dumps(claims).encode())}"
        r, s = decode_dss_signature(self._provisioner.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{signed}.{_encoded(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def csr_pem(name: str) -> str:
    """A CSR of a new key with a name, as both peers want it."""
    csr = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(common_name(name))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(new_key(), hashes.SHA256())
    )
    return csr.public_bytes(Encoding.PEM).decode()


def authority_certificate(
    name: str, key: ec.EllipticCurvePrivateKey, issuer: str, issuer_key: ec.EllipticCurvePrivateKey
) -> bytes:
    """A CA's certificate (PEM)."""
    now = dt.datetime.now(dt.UTC)
    usage = dict.fromkeys(
        ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment"), False
    )
    usage |= dict.fromkeys(("key_agreement", "encipher_only", "decipher_only"), False)
    usage |= dict.fromkeys(("key_cert_sign", "crl_sign"), True)
    return (
        x509.CertificateBuilder()
        .subject_name(common_name(name))
        .issuer_name(common_name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=1))
        .not_valid_after(now + _VALID)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(**usage), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False
        )
        .sign(issuer_key, hashes.SHA256())
        .public_bytes(Encoding.PEM)
    )


def public_jwk(key: ec.EllipticCurvePrivateKey) -> dict[str, Any]:
    """The public half as a JSON Web Key (RFC 7517), named by its thumbprint (RFC 7638)."""
    numbers = key.public_key().public_numbers()
    x, y = (_encoded(each.to_bytes(32, "big")) for each in (numbers.x, numbers.y))
    thumbprint = hashlib.sha256(f'{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}'.encode()).digest()
    return {
        "kty": "EC",
        "crv": "P-256",
        "x": x,
        "y": y,
        "use": "sig",
        "alg": "ES256",
        "kid": _encoded(thumbprint),
    }


def _encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
