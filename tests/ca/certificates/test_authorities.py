"""Root and issuing CA: what each may sign, which names are permitted below, and where their status is
found.
"""

from __future__ import annotations

from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from ca.certificates.authorities import AuthorityPlan, issuing_builder, root_builder
from tests.support.ca_authority import AuthorityForTests
from tests.support.certificates import IDENTITY, NOW

CA = AuthorityForTests()


def value_of(
    certificate: x509.Certificate, type_: type[x509.ExtensionType]
) -> x509.Extension[x509.ExtensionType]:
    return certificate.extensions.get_extension_for_class(type_)


def test_the_root_signs_cas_and_lists_and_constrains_nothing() -> None:
    assert CA.root.issuer == CA.root.subject
    constraints = value_of(CA.root, x509.BasicConstraints)
    assert (constraints.value, constraints.critical) == (
        x509.BasicConstraints(ca=True, path_length=None),
        True,
    )
    usage = CA.root.extensions.get_extension_for_class(x509.KeyUsage).value
    assert (usage.key_cert_sign, usage.crl_sign, usage.digital_signature) == (True, True, False)
    with pytest.raises(x509.ExtensionNotFound):
        value_of(CA.root, x509.NameConstraints)


def test_the_issuing_ca_signs_no_ca() -> None:
    assert value_of(CA.issuing, x509.BasicConstraints).value == x509.BasicConstraints(ca=True, path_length=0)
    CA.issuing.verify_directly_issued_by(CA.root)


def test_only_dns_names_of_application_and_node_domains_are_permitted_and_critically_so() -> None:
    extension = CA.issuing.extensions.get_extension_for_class(x509.NameConstraints)
    assert extension.critical
    assert extension.value.excluded_subtrees is None
    assert list(extension.value.permitted_subtrees or ()) == [
        x509.DNSName("shop.example"),
        x509.DNSName("nodes.shop.example"),
        x509.DNSName("compute.internal"),
    ]


def test_names_are_the_applications_and_unique_to_the_key() -> None:
    labels = [each.value for each in CA.issuing.subject.get_attributes_for_oid(x509.NameOID.DOMAIN_COMPONENT)]
    assert labels == ["example", "shop"]
    (name,) = CA.issuing.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    identifier = CA.issuing.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    assert name.value == f"Ostiary Issuing CA {identifier.hex()[:8]}"
    assert CA.issuing.subject != AuthorityForTests().issuing.subject


def test_a_chain_verifies_and_one_of_another_domain_does_not() -> None:
    """Pyca's verifier holds the leaf's DNS name to the constraints."""
    verifier = PolicyBuilder().store(Store([CA.root])).time(NOW).build_client_verifier()
    verifier.verify(CA.leaf(), [CA.issuing])
    plan = AuthorityPlan(
        application=IDENTITY.application,
        public_key=CA.key.public_key(),
        serial_number=9,
        now=NOW,
        not_after=NOW + timedelta(days=1),
    )
    elsewhere = issuing_builder(
        plan,
        root=CA.root,
        node_domains=("compute.internal",),
        crl_url="http://127.0.0.1/root.crl",
        ca_issuers_url="http://127.0.0.1/root.cer",
    )
    narrowed = replace_constraints(elsewhere, [x509.DNSName("compute.internal")])
    with pytest.raises(VerificationError):
        verifier.verify(CA.leaf(), [narrowed])


def replace_constraints(builder: x509.CertificateBuilder, permitted: list[x509.DNSName]) -> x509.Certificate:
    """The same issuing CA with other constraints: what the verifier refuses is these alone."""
    made = builder.sign(CA.root_key, hashes.SHA384())
    other = x509.CertificateBuilder(
        issuer_name=made.issuer,
        subject_name=CA.issuing.subject,
        public_key=CA.key.public_key(),
        serial_number=10,
        not_valid_before=made.not_valid_before_utc,
        not_valid_after=made.not_valid_after_utc,
    )
    for extension in made.extensions:
        value = extension.value
        if isinstance(value, x509.NameConstraints):
            value = x509.NameConstraints(permitted, None)
        other = other.add_extension(value, critical=extension.critical)
    return other.sign(CA.root_key, hashes.SHA384())


def test_times_are_whole_seconds_and_backdated_by_a_minute() -> None:
    plan = AuthorityPlan(
        application=IDENTITY.application,
        public_key=ec.generate_private_key(ec.SECP256R1()).public_key(),
        serial_number=11,
        now=NOW.replace(microsecond=999_999),
        not_after=NOW + timedelta(days=10, microseconds=5),
    )
    root = root_builder(plan).sign(CA.root_key, hashes.SHA384())
    assert root.not_valid_before_utc == NOW - timedelta(seconds=60)
    assert root.not_valid_after_utc == NOW + timedelta(days=10)
