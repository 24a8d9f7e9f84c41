"""An agent's key and the certification request for it.

Rules:
- Every generation has a new P-256 key, which exists in memory and in a kernel key, and in no file.
- The request carries the names that the certificate will have, so a mix-up shows at once, and nothing else;
  endpoints and capabilities come from the token or the lineage.
- A request is made once per key and kept beside it: an ECDSA signature differs each time, and only the same
  bytes count as the same request.
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from ostiary.certificate import accept_public_key, spki_der
from ostiary.identity import AgentID, Application, NodeName, SubSystem
from ostiary.secret import Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """An agent's names: who it is, without what it may do or where it listens."""

    application: Application
    subsystem: SubSystem
    node: NodeName
    agent: AgentID

    @property
    def host(self) -> str:
        """The agent's DNS name, `<agent>.<node>`."""
        return f"{self.agent}.{self.node}"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPair:
    """A private key (PEM, unencrypted PKCS#8) and its PKCS#10 request (DER)."""

    private_key_pem: Secret
    csr_der: bytes

    @property
    def spki_der(self) -> bytes:
        """SubjectPublicKeyInfo of the request, DER."""
        request = x509.load_der_x509_csr(self.csr_der)
        return spki_der(accept_public_key(request.public_key()))


def generate(names: Names) -> KeyPair:
    """Make a key from the system's randomness, and its request; about 0.1 ms."""
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return KeyPair(private_key_pem=Secret(pem), csr_der=build_csr(key, names))


def build_csr(key: ec.EllipticCurvePrivateKey, names: Names) -> bytes:
    """Build the PKCS#10 request (DER): Subject and DNS name of an identity."""
    # RFC 2247 section 3: one domainComponent per label, so shop.example is DC=example, DC=shop.
    labels = [
        x509.NameAttribute(NameOID.DOMAIN_COMPONENT, label)
        for label in reversed(names.application.split("."))
    ]
    subject = x509.Name(
        [
            *labels,
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, names.subsystem),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, names.node),
            x509.NameAttribute(NameOID.USER_ID, names.agent),
        ]
    )
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    # RFC 2985 section 5.4.2: pyca writes this as an extensionRequest attribute.
    host = x509.SubjectAlternativeName([x509.DNSName(names.host)])
    return builder.add_extension(host, critical=False).sign(key, hashes.SHA256()).public_bytes(Encoding.DER)
