"""The certificates of our profile by another hand: pyca/cryptography's builder, and plans of every kind to
try.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID
from hypothesis import strategies as st

from ca.certificates.profile import LeafPlan
from ostiary.capabilities import CAPABILITIES_OID, encode_extension, parse_capabilities
from ostiary.certificate import PublicKey
from ostiary.identity import Identity, parse_agent_id, parse_endpoint, parse_node, parse_subsystem
from ostiary.subsystems import CERTIFICATE_AUTHORITY, SERVICES
from tests.support.ca_authority import CONFIG, LEAF_KEY, AuthorityForTests
from tests.support.certificates import IDENTITY

KEYS: Final[dict[str, PublicKey]] = {
    "P-256": LEAF_KEY.public_key(),
    "P-384": ec.generate_private_key(ec.SECP384R1()).public_key(),
    "Ed25519": ed25519.Ed25519PrivateKey.generate().public_key(),
    "RSA-2048": rsa.generate_private_key(65537, 2048).public_key(),
}


def tbs_by_pyca(ca: AuthorityForTests, plan: LeafPlan, key: PublicKey) -> bytes:
    """Build the same certificate with pyca's builder and a throwaway key of the issuer's type."""
    identity = plan.identity
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(str(url)) for url in identity.endpoints]
    names += [x509.DNSName(identity.host)] + [x509.DNSName(identity.node)] * identity.node_name_in_san
    usages = [ExtendedKeyUsageOID.CLIENT_AUTH]
    usages += [ExtendedKeyUsageOID.SERVER_AUTH] * (bool(identity.endpoints) or identity.node_name_in_san)
    uri = x509.UniformResourceIdentifier
    builder = (
        x509.CertificateBuilder()
        .serial_number(plan.serial_number)
        .issuer_name(ca.issuing.subject)
        .not_valid_before(plan.not_before)
        .not_valid_after(plan.not_after)
        .subject_name(_subject(identity))
        .public_key(key)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=True,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                key_cert_sign=False,
                crl_sign=False,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(
            x509.AuthorityInformationAccess(
                [
                    x509.AccessDescription(AuthorityInformationAccessOID.OCSP, uri(CONFIG.ocsp_url)),
                    x509.AccessDescription(
                        AuthorityInformationAccessOID.CA_ISSUERS, uri(CONFIG.ca_issuers_url)
                    ),
                ]
            ),
            critical=False,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.key.public_key()), critical=False
        )
        .add_extension(
            x509.CRLDistributionPoints(
                [x509.DistributionPoint([uri(f"{CONFIG.crl_base_url}{plan.shard}.crl")], None, None, None)]
            ),
            critical=False,
        )
    )
    if identity.capabilities and not plan.pending:
        value = encode_extension(identity.capabilities)
        builder = builder.add_extension(x509.UnrecognizedExtension(CAPABILITIES_OID, value), critical=False)
    throwaway = ec.generate_private_key(ec.SECP256R1())
    return builder.sign(throwaway, hashes.SHA256()).tbs_certificate_bytes


def _subject(identity: Identity) -> x509.Name:
    labels = reversed(identity.application.split("."))
    return x509.Name(
        [
            *(x509.NameAttribute(NameOID.DOMAIN_COMPONENT, label) for label in labels),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, identity.subsystem),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, identity.node),
            x509.NameAttribute(NameOID.USER_ID, identity.agent),
        ]
    )


_SUBSYSTEMS = ["component-harness", "x", "a" + "-b2" * 21, *sorted(SERVICES - {CERTIFICATE_AUTHORITY})]
_NODES = [
    "n1.nodes.shop.example",
    "nodes.shop.example",
    "a-1.b.compute.internal",
    f"{'n' * 45}.nodes.shop.example",
]
_CAPABILITIES = ["credential:use", "ledger:read", "spawn:component", f"v:{'o' * 95}", "enroll:node"]


@st.composite
def plans(draw: st.DrawFn, ca: AuthorityForTests) -> tuple[LeafPlan, PublicKey]:
    """A plan of one of this CA's leaves, and its key."""
    agent, node = parse_agent_id(str(draw(st.uuids()))), parse_node(draw(st.sampled_from(_NODES)))
    subsystem = parse_subsystem(draw(st.sampled_from(_SUBSYSTEMS)))
    ports = draw(st.lists(st.integers(1, 65535), unique=True, max_size=16))
    identity = Identity(
        application=IDENTITY.application,
        subsystem=subsystem,
        node=node,
        agent=agent,
        endpoints=tuple(parse_endpoint(f"https+tcp://{agent}.{node}:{port}") for port in ports),
        capabilities=parse_capabilities(draw(st.sets(st.sampled_from(_CAPABILITIES)))),
        node_name_in_san=subsystem in SERVICES,
    )
    key = KEYS[draw(st.sampled_from(sorted(KEYS)))]
    plan = ca.plan(
        identity,
        key=key,
        lifetime=timedelta(seconds=draw(st.integers(60, 86400))),
        serial_number=draw(st.integers(1, (1 << 159) - 1)),
        pending=draw(st.booleans()),
        shard=draw(st.integers(0, 10**18 - 1)),
    )
    return plan, key
