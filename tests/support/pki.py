"""A root, leaves and their PEMs in one call, correct by default.

tests/support/identities.py makes leaves whose names map to an identity.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ostiary.edge.tls import build_identity_pem

DAY = dt.timedelta(days=1)
BOTH_ENDS = (ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH)


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def identity_pem(self) -> bytes:
        return build_identity_pem(self.key, [self.certificate])

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)


class Root:
    """A root that issues leaves directly; by default all are valid from a minute ago, for a day."""

    def __init__(
        self,
        name: str = "Test root",
        *,
        not_before: dt.datetime | None = None,
        not_after: dt.datetime | None = None,
    ) -> None:
        now = dt.datetime.now(dt.UTC)
        self._not_before = not_before or now - dt.timedelta(seconds=60)
        self._not_after = not_after or now + DAY
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = common_name(name)
        self.certificate = (
            self._builder(self._name, self._key.public_key(), self._not_after)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_usage(sign_certificates=True), critical=True)
            .sign(self._key, hashes.SHA256())
        )

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    def leaf(self, name: str) -> Leaf:
        """A leaf with `name` as its only DNS name."""
        return self.issue(common_name(name), [name])

    def issue(
        self,
        subject: x509.Name,
        names: Iterable[str],
        *,
        until: dt.datetime | None = None,
        more: Iterable[x509.ExtensionType] = (),
        purposes: Iterable[x509.ObjectIdentifier] = BOTH_ENDS,
    ) -> Leaf:
        """A leaf for client and server use with these DNS names and, non-critical, `more` extensions."""
        key = ec.generate_private_key(ec.SECP256R1())
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = (
            self._builder(subject, key.public_key(), until or self._not_after)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(sign_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
            .add_extension(x509.SubjectAlternativeName(map(x509.DNSName, names)), critical=False)
            .add_extension(issuer, critical=False)
        )
        for extension in more:
            builder = builder.add_extension(extension, critical=False)
        return Leaf(key=key, certificate=builder.sign(self._key, hashes.SHA256()))

    def _builder(
        self, subject: x509.Name, public_key: ec.EllipticCurvePublicKey, not_after: dt.datetime
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(self._not_before)
            .not_valid_after(not_after)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        )


def common_name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign_certificates,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def identities_that_do_not_load() -> list[bytes]:
    """Nothing, nonsense, and the key of one certificate with another."""
    root = Root()
    key, certificate = root.leaf("a.example").identity_pem, root.leaf("b.example").identity_pem
    begin = b"-----BEGIN CERT"
    return [b"", b"nonsense", key.split(begin)[0] + certificate[certificate.index(begin) :]]
