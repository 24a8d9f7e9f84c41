"""Certificates whose names map (ostiary/identity.py), from a root of the test's own, valid for as long as a test likes."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterable
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ostiary.capabilities import CAPABILITIES_OID, encode_extension, parse_capabilities
from ostiary.certificate import serial_hex
from ostiary.edge.tls import identity_pem

NODE = "n1.nodes.shop.example"


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """A certificate with its key."""

    agent: str
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def identity(self) -> bytes:
        """Key and certificate in one PEM."""
        return identity_pem(self.key, [self.certificate])

    @property
    def serial(self) -> str:
        return serial_hex(self.certificate.serial_number)


class Authority:
    """A root that signs leaves itself; all are valid from 2009 to 2049, so that a service's clock may be anywhere."""

    not_before = dt.datetime(2009, 1, 1, tzinfo=dt.UTC)
    not_after = dt.datetime(2049, 1, 1, tzinfo=dt.UTC)

    def __init__(self, application: str = "shop.example") -> None:
        self._application = application
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Root of {application}")])
        self.certificate = (
            self._builder(self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_usage(is_authority=True), critical=True)
            .sign(self._key, hashes.SHA256())
        )

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    def agent(
        self,
        subsystem: str,
        *,
        capabilities: Iterable[str] = (),
        node: str = NODE,
        named_by_node: bool = False,
        until: dt.datetime | None = None,
        common_name: str | None = None,
    ) -> Agent:
        """A leaf that `identity_of` reads; a `common_name` instead makes one that it doesn't."""
        agent = str(uuid.uuid4())
        key = ec.generate_private_key(ec.SECP256R1())
        names = [f"{agent}.{node}", *([node] if named_by_node else [])]
        name = x509.Name(
            [
                *(
                    x509.NameAttribute(NameOID.DOMAIN_COMPONENT, label)
                    for label in reversed(self._application.split("."))
                ),
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, subsystem),
                x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, node),
                x509.NameAttribute(NameOID.USER_ID, agent),
            ]
        )
        if common_name is not None:
            name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        builder = (
            self._builder(name, key.public_key(), until=until)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(is_authority=False), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]),
                critical=False,
            )
            .add_extension(x509.SubjectAlternativeName(map(x509.DNSName, names)), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
            )
        )
        if granted := parse_capabilities(capabilities):
            extension = x509.UnrecognizedExtension(CAPABILITIES_OID, encode_extension(granted))
            builder = builder.add_extension(extension, critical=False)
        return Agent(agent=agent, key=key, certificate=builder.sign(self._key, hashes.SHA256()))

    def _builder(
        self, subject: x509.Name, public_key: ec.EllipticCurvePublicKey, *, until: dt.datetime | None = None
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(self.not_before)
            .not_valid_after(until or self.not_after)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        )


def _usage(*, is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_authority,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
