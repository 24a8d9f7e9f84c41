"""The guard takes exactly our profile: each refused case differs from a signable one in one respect."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import example, given
from hypothesis import strategies as st

from ca.certificates.profile import build_tbs
from ca.keyholder.certificate_guard import (
    CRLScope,
    check_tbs_cert_list,
    check_tbs_certificate,
    check_tbs_responder,
    shard_of,
)
from ostiary.certificate import ED25519, algorithm_of_tbs, spki_der
from ostiary.errors import Forbidden
from ostiary.identity import parse_application, parse_node
from tests.support.ca_authority import CONFIG, LEAF_KEY, AuthorityForTests
from tests.support.certificates import IDENTITY

CA = AuthorityForTests()
TBS = build_tbs(CA.profile, CA.plan())
THROWAWAY = ec.generate_private_key(ec.SECP256R1())
Builder = x509.CertificateBuilder


def rebuilt(
    tbs: bytes = TBS,
    *,
    extensions: Callable[[list[x509.Extension[Any]]], list[x509.Extension[Any]]] = lambda found: found,
    digest: hashes.SHA256 | hashes.SHA384 | None = None,
    **changes: Any,
) -> bytes:
    """Take a right certificate apart and put it together again with pyca's builder, changed in one
    respect.
    """
    certificate = CA.sign(tbs)
    fields: dict[str, Any] = {
        "issuer_name": certificate.issuer,
        "subject_name": certificate.subject,
        "public_key": certificate.public_key(),
        "serial_number": certificate.serial_number,
        "not_valid_before": certificate.not_valid_before_utc,
        "not_valid_after": certificate.not_valid_after_utc,
    }
    builder = Builder(**{**fields, **changes})
    for extension in extensions(list(certificate.extensions)):
        builder = builder.add_extension(extension.value, critical=extension.critical)
    return builder.sign(THROWAWAY, digest or hashes.SHA256()).tbs_certificate_bytes


def instead(value: x509.ExtensionType, *, critical: bool | None = None) -> Callable[[Any], Any]:
    """Replace the extension of that type."""
    return lambda found: [
        x509.Extension(value.oid, extension.critical if critical is None else critical, value)
        if extension.oid == value.oid
        else extension
        for extension in found
    ]


def besides(value: x509.ExtensionType) -> Callable[[Any], Any]:
    return lambda found: [*found, x509.Extension(value.oid, False, value)]


def without(kind: type[x509.ExtensionType]) -> Callable[[Any], Any]:
    return lambda found: [extension for extension in found if not isinstance(extension.value, kind)]


def usage(**flags: bool) -> x509.KeyUsage:
    names = [
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
    ]
    names += ["key_cert_sign", "crl_sign", "encipher_only", "decipher_only"]
    return x509.KeyUsage(**{name: flags.get(name, name == "digital_signature") for name in names})


def points(*urls: str, **more: Any) -> x509.CRLDistributionPoints:
    return x509.CRLDistributionPoints(
        [
            x509.DistributionPoint([x509.UniformResourceIdentifier(url)], None, None, more.get("crl_issuer"))
            for url in urls
        ]
    )


URI = x509.UniformResourceIdentifier
SHARD = f"{CONFIG.crl_base_url}3.crl"
AIA = CA.leaf().extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
NOW = CA.now
BEFORE, AFTER = NOW - timedelta(seconds=60), NOW + timedelta(hours=2)
HOUR, SECOND = timedelta(hours=1), timedelta(seconds=1)
CLIENT, SERVER = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH

BAD: dict[str, tuple[dict[str, Any], str]] = {
    "issuer is the root": ({"issuer_name": CA.root.subject}, "issuer"),
    "issuer is the leaf itself": ({"issuer_name": CA.leaf().subject}, "issuer"),
    "another hash in the algorithm": ({"digest": hashes.SHA384()}, "signature-algorithm"),
    "serial number of 160 bits": (
        {"serial_number": 1 << 159},
        "serial-number",
    ),
    "begins in an hour": ({"not_valid_before": BEFORE + HOUR}, "not-before"),
    "began six minutes ago": ({"not_valid_before": NOW - timedelta(minutes=6)}, "not-before"),
    "lives 24 h 1 min 1 s": ({"not_valid_after": BEFORE + timedelta(hours=24, seconds=61)}, "not-after"),
    "lives a year": ({"not_valid_after": BEFORE + timedelta(days=365)}, "not-after"),
    "is a CA": (
        {"extensions": instead(x509.BasicConstraints(ca=True, path_length=None))},
        "basic-constraints",
    ),
    "BC not critical": (
        {"extensions": instead(x509.BasicConstraints(ca=False, path_length=None), critical=False)},
        "critical",
    ),
    "no BC": ({"extensions": without(x509.BasicConstraints)}, "extensions"),
    "may sign certificates": ({"extensions": instead(usage(key_cert_sign=True))}, "key-usage"),
    "may sign CRLs": ({"extensions": instead(usage(crl_sign=True))}, "key-usage"),
    "may encipher keys": ({"extensions": instead(usage(key_encipherment=True))}, "key-usage"),
    "KU not critical": ({"extensions": instead(usage(), critical=False)}, "critical"),
    "EKU any": (
        {"extensions": instead(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]))},
        "extended-key-usage",
    ),
    "EKU also signs OCSP": (
        {"extensions": instead(x509.ExtendedKeyUsage([CLIENT, SERVER, ExtendedKeyUsageOID.OCSP_SIGNING]))},
        "extended-key-usage",
    ),
    "EKU lacks serverAuth": ({"extensions": instead(x509.ExtendedKeyUsage([CLIENT]))}, "extended-key-usage"),
    "no EKU": ({"extensions": without(x509.ExtendedKeyUsage)}, "extensions"),
    "EKU critical": (
        {"extensions": instead(x509.ExtendedKeyUsage([CLIENT, SERVER]), critical=True)},
        "critical",
    ),
    "OCSP elsewhere": (
        {
            "extensions": instead(
                x509.AuthorityInformationAccess(
                    [
                        x509.AccessDescription(AIA[0].access_method, URI("http://evil.example/")),
                        AIA[1],
                    ]
                )
            )
        },
        "authority-information",
    ),
    "no AIA": ({"extensions": without(x509.AuthorityInformationAccess)}, "extensions"),
    "key identifier of another key": (
        {"extensions": instead(x509.SubjectKeyIdentifier.from_public_key(THROWAWAY.public_key()))},
        "subject-key",
    ),
    "issuer's identifier of another key": (
        {"extensions": instead(x509.AuthorityKeyIdentifier.from_issuer_public_key(THROWAWAY.public_key()))},
        "authority-key",
    ),
    "CRL elsewhere": ({"extensions": instead(points("http://evil.example/3.crl"))}, "crl-distribution-point"),
    "CRL of no shard": ({"extensions": instead(points(SHARD.replace("3.", "x.")))}, "crl-distribution-point"),
    "CRL shard 03": ({"extensions": instead(points(SHARD.replace("3.", "03.")))}, "crl-distribution-point"),
    "an empty list of CRLs": ({"extensions": instead(points())}, "crl-distribution-point"),
    "two CRLs": ({"extensions": instead(points(SHARD, SHARD))}, "crl-distribution-point"),
    "CRL of another issuer": (
        {"extensions": instead(points(SHARD, crl_issuer=[x509.DirectoryName(CA.root.subject)]))},
        "crl-distribution-point",
    ),
    "no CRL": ({"extensions": without(x509.CRLDistributionPoints)}, "extensions"),
    "nocheck besides": ({"extensions": besides(x509.OCSPNoCheck())}, "extensions"),
    "unknown extension besides": (
        {"extensions": besides(x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"))},
        "extensions",
    ),
    "name constraints besides": (
        {"extensions": besides(x509.NameConstraints([x509.DNSName("a.example")], None))},
        "extensions",
    ),
    "subject does not map": ({"subject_name": CA.issuing.subject}, "identity"),
    "no SAN": ({"extensions": without(x509.SubjectAlternativeName)}, "identity"),
    "key P-521": ({"public_key": ec.generate_private_key(ec.SECP521R1()).public_key()}, "parse"),
}


def test_our_profile_is_signed() -> None:
    for plan in (
        CA.plan(),
        CA.plan(pending=True),
        CA.plan(dataclasses.replace(IDENTITY, endpoints=())),
        CA.plan(dataclasses.replace(IDENTITY, node_name_in_san=True)),
        CA.plan(lifetime=timedelta(hours=24)),
    ):
        tbs = build_tbs(CA.profile, plan)
        identity = check_tbs_certificate(tbs, CA.guard, NOW)
        expected = (
            dataclasses.replace(plan.identity, capabilities=frozenset()) if plan.pending else plan.identity
        )
        assert identity == expected
        assert shard_of(CA.sign(tbs), CA.guard) == plan.shard
    assert check_tbs_certificate(rebuilt(), CA.guard, NOW) == IDENTITY


@pytest.mark.parametrize("case", BAD)
def test_one_thing_wrong_is_refused(case: str) -> None:
    changes, rule = BAD[case]
    with pytest.raises(Forbidden) as refusal:
        check_tbs_certificate(rebuilt(**changes), CA.guard, NOW)
    assert refusal.value.rule == f"guard-{rule}"


@pytest.mark.parametrize(
    ("identity", "rule"),
    [
        ({"application": parse_application("other.example")}, "guard-application"),
        ({"node": parse_node("n1.evil.example"), "endpoints": ()}, "guard-node-domain"),
        ({"node": parse_node("n1.evilshop.example"), "endpoints": ()}, "guard-node-domain"),
    ],
)
def test_another_trust_domain_is_refused(identity: dict[str, Any], rule: str) -> None:
    plan = dataclasses.replace(CA.plan(), identity=dataclasses.replace(IDENTITY, **identity))
    with pytest.raises(Forbidden) as refusal:
        check_tbs_certificate(build_tbs(CA.profile, plan), CA.guard, NOW)
    assert refusal.value.rule == rule


def test_version_two_is_refused() -> None:
    version_three = bytes.fromhex("a003020102")
    assert bytes(TBS).count(version_three) == 1
    with pytest.raises(Forbidden):
        check_tbs_certificate(TBS.replace(version_three, bytes.fromhex("a003020101")), CA.guard, NOW)


def test_the_clock_is_the_guards_own() -> None:
    for off in (timedelta(minutes=-7), timedelta(minutes=5)):
        with pytest.raises(Forbidden):
            check_tbs_certificate(TBS, CA.guard, NOW + off)


def test_it_may_not_outlive_the_issuer() -> None:
    guard = dataclasses.replace(CA.guard, issuer_not_after=NOW + HOUR)
    with pytest.raises(Forbidden):
        check_tbs_certificate(TBS, guard, NOW)


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
@given(st.integers(0, len(TBS) - 1), st.integers(1, 255))
@example(TBS.index(CA.plan().serial_number.to_bytes(20, "big")), 0x80)  # negative
def test_a_changed_octet_is_refused_or_another_right_certificate(position: int, change: int) -> None:
    """Never another exception; what passes is still of our profile (another serial number, another agent,
    ...).
    """
    broken = bytearray(TBS)
    broken[position] ^= change
    try:
        identity = check_tbs_certificate(bytes(broken), CA.guard, NOW)
    except Forbidden:
        return
    assert identity.application == IDENTITY.application


@given(st.binary(max_size=100))
def test_other_bytes_are_refused(data: bytes) -> None:
    for check in (check_tbs_certificate, check_tbs_responder, check_tbs_cert_list):
        with pytest.raises(Forbidden):
            check(data, CA.guard, NOW)


def tbs_of_crl(**changes: Any) -> bytes:
    return x509.load_der_x509_crl(CA.crl([], **changes)).tbs_certlist_bytes


RESPONDER = CA.responder().tbs_certificate_bytes
RESPONDER_NAME = CA.responder().subject


def test_one_structure_is_not_signed_as_another() -> None:
    crl = tbs_of_crl()
    for check, right in (
        (check_tbs_certificate, TBS),
        (check_tbs_responder, RESPONDER),
        (check_tbs_cert_list, crl),
    ):
        for tbs in (TBS, RESPONDER, crl):
            if tbs is right:
                check(tbs, CA.guard, NOW)
                continue
            with pytest.raises(Forbidden):
                check(tbs, CA.guard, NOW)


@pytest.mark.parametrize(
    "changes",
    [
        {"extensions": without(x509.OCSPNoCheck)},
        {"extensions": instead(x509.ExtendedKeyUsage([CLIENT]))},
        {"extensions": besides(x509.SubjectAlternativeName([x509.DNSName("a.nodes.shop.example")]))},
        {"subject_name": CA.leaf().subject},
        {"subject_name": CA.issuing.subject},
        {"subject_name": x509.Name(list(RESPONDER_NAME)[1:])},
        {"subject_name": x509.Name([*RESPONDER_NAME, x509.NameAttribute(x509.NameOID.USER_ID, "x")])},
        {"not_valid_after": BEFORE + timedelta(days=2)},
        {"issuer_name": CA.root.subject},
    ],
    ids=[
        "no nocheck",
        "clientAuth",
        "with SAN",
        "agent's name",
        "CA's name",
        "other DC",
        "UID besides",
        "two days",
        "root's",
    ],
)
def test_a_responder_with_one_thing_wrong_is_refused(changes: dict[str, Any]) -> None:
    check_tbs_responder(rebuilt(RESPONDER), CA.guard, NOW)
    with pytest.raises(Forbidden):
        check_tbs_responder(rebuilt(RESPONDER, **changes), CA.guard, NOW)


def test_our_lists_are_signed() -> None:
    assert check_tbs_cert_list(tbs_of_crl(number=9, shard=3), CA.guard, NOW) == CRLScope(
        crl_number=9, shard=3
    )
    assert check_tbs_cert_list(tbs_of_crl(number=9, shard=None), CA.guard, NOW) == CRLScope(
        crl_number=9, shard=None
    )


def crl_by_pyca(issuer: x509.Name = CA.issuing.subject, **changes: Any) -> bytes:
    point = {
        "full_name": [URI(SHARD)],
        "relative_name": None,
        "only_contains_user_certs": False,
        "only_contains_ca_certs": False,
        "only_some_reasons": None,
        "indirect_crl": False,
        "only_contains_attribute_certs": False,
    }
    builder = x509.CertificateRevocationListBuilder(
        issuer, changes.get("this_update", NOW), changes.get("next_update", NOW + timedelta(days=1))
    )
    identifier = changes.get("authority_key", CA.guard.authority_key)
    for extension, critical in (
        (identifier, False),
        (x509.CRLNumber(1), changes.get("number_critical", False)),
        (
            x509.IssuingDistributionPoint(**{**point, **changes.get("point", {})}),
            changes.get("critical", True),
        ),
        *changes.get("more", ()),
    ):
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(THROWAWAY, changes.get("digest", hashes.SHA256())).tbs_certlist_bytes


@pytest.mark.parametrize(
    "changes",
    [
        {"issuer": CA.root.subject},
        {"digest": hashes.SHA384()},
        {"this_update": NOW - timedelta(minutes=6)},
        {"this_update": NOW + timedelta(minutes=6)},
        {"next_update": NOW + timedelta(days=8)},
        {"authority_key": x509.AuthorityKeyIdentifier(bytes(20), None, None)},
        {"point": {"full_name": [URI("http://evil.example/3.crl")]}},
        {"point": {"indirect_crl": True}},
        {"point": {"only_contains_ca_certs": True}},
        {"critical": False},
        {"number_critical": True},
        {"more": [(x509.DeltaCRLIndicator(1), True)]},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_list_with_one_thing_wrong_is_refused(changes: dict[str, Any]) -> None:
    check_tbs_cert_list(crl_by_pyca(), CA.guard, NOW)
    with pytest.raises(Forbidden):
        check_tbs_cert_list(crl_by_pyca(**changes), CA.guard, NOW)


def test_the_builder_of_bad_cases_is_right_by_default() -> None:
    assert rebuilt() == TBS
    assert algorithm_of_tbs(TBS) != ED25519
    assert spki_der(LEAF_KEY.public_key()) in bytes(TBS)
