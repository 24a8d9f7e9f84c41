"""Certificates made by pyca/cryptography's builder: correct by default, wrong in one chosen respect."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ostiary.capabilities import CAPABILITIES_OID, parse_capabilities
from ostiary.identity import (
    Identity,
    parse_agent_id,
    parse_application,
    parse_endpoint,
    parse_node,
    parse_subsystem,
)

NOW: Final = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
KEY: Final = ec.generate_private_key(ec.SECP256R1())
AGENT: Final = "5b1f1a3e-7a0c-4c1d-9b55-0c3b9f3f2a10"
NODE: Final = "n1.nodes.shop.example"
HOST: Final = f"{AGENT}.{NODE}"
URL: Final = f"https+tcp://{HOST}:8443"

IDENTITY: Final = Identity(
    application=parse_application("shop.example"),
    subsystem=parse_subsystem("component-harness"),
    node=parse_node(NODE),
    agent=parse_agent_id(AGENT),
    endpoints=(parse_endpoint(URL),),
    capabilities=parse_capabilities(["credential:use", "spawn:component"]),
)

Attribute = x509.NameAttribute
SUBJECT: Final = (
    Attribute(NameOID.DOMAIN_COMPONENT, "example"),
    Attribute(NameOID.DOMAIN_COMPONENT, "shop"),
    Attribute(NameOID.ORGANIZATION_NAME, "component-harness"),
    Attribute(NameOID.ORGANIZATIONAL_UNIT_NAME, NODE),
    Attribute(NameOID.USER_ID, AGENT),
)
ALTERNATIVE_NAME: Final = (x509.UniformResourceIdentifier(URL), x509.DNSName(HOST))
CAPABILITIES_VALUE: Final = bytes.fromhex("30210c0e") + b"credential:use" + b"\x0c\x0f" + b"spawn:component"


def build_certificate(
    *,
    subject: x509.Name | None = None,
    alternative_name: tuple[x509.GeneralName, ...] | None = ALTERNATIVE_NAME,
    capabilities: bytes | None = CAPABILITIES_VALUE,
    capabilities_critical: bool = False,
) -> x509.Certificate:
    """Build a self-signed leaf that `identity_of` reads as IDENTITY unless told otherwise."""
    name = subject or x509.Name(SUBJECT)
    builder = x509.CertificateBuilder(
        issuer_name=name,
        subject_name=name,
        public_key=KEY.public_key(),
        serial_number=7,
        not_valid_before=NOW,
        not_valid_after=NOW + timedelta(hours=2),
    )
    if alternative_name is not None:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternative_name), critical=False)
    if capabilities is not None:
        builder = builder.add_extension(
            x509.UnrecognizedExtension(CAPABILITIES_OID, capabilities), critical=capabilities_critical
        )
    return builder.sign(KEY, hashes.SHA256())
