"""The profile: our bytes are those of pyca's builder; what doesn't fit is refused; openssl reads the plan."""

from __future__ import annotations

import dataclasses
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import verification
from cryptography.x509.oid import NameOID

from ca.certificates.profile import ProfileConfig, build_tbs, check_profile, serial_number
from ostiary.capabilities import CAPABILITIES_OID
from ostiary.certificate import spki_der
from ostiary.errors import BadInput, Misconfigured
from ostiary.identity import Identity, identity_of, parse_application, parse_node
from tests.support.ca_authority import CONFIG, LEAF_KEY, SERIAL, AuthorityForTests
from tests.support.certificates import ALTERNATIVE_NAME, HOST, IDENTITY, NODE
from tests.support.independent_certificates import KEYS, tbs_by_pyca
from tests.support.need import require_tool
from tests.support.work import calls_of

CA = AuthorityForTests()
SERVICE = dataclasses.replace(IDENTITY, node_name_in_san=True)
PLAIN = dataclasses.replace(IDENTITY, endpoints=(), capabilities=frozenset())


@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize("pending", [False, True])
@pytest.mark.parametrize("identity", [IDENTITY, SERVICE, PLAIN], ids=["agent", "service", "plain"])
def test_our_bytes_are_those_of_pycas_builder(kind: str, pending: bool, identity: Identity) -> None:
    key = KEYS[kind]
    plan = CA.plan(identity, key=key, pending=pending)
    assert build_tbs(CA.profile, plan) == tbs_by_pyca(CA, plan, key)


def test_a_validity_beyond_2049_changes_its_form_as_pycas_does() -> None:
    late = AuthorityForTests(now=CA.now.replace(year=2049, month=12, day=31, hour=23))
    plan = dataclasses.replace(late.plan(), serial_number=SERIAL)
    tbs = build_tbs(dataclasses.replace(late.profile), plan)
    certificate = late.sign(tbs)
    assert (certificate.not_valid_before_utc, certificate.not_valid_after_utc) == (
        plan.not_before,
        plan.not_after,
    )
    assert bytes(tbs).count(b"\x18\x0f2050") == 1


def test_a_pending_certificate_carries_no_capability() -> None:
    assert identity_of(CA.leaf(CA.plan(pending=True))).capabilities == frozenset()
    assert identity_of(CA.leaf(CA.plan())).capabilities == IDENTITY.capabilities


def test_validity_is_backdated_by_a_minute_and_ends_after_the_lifetime() -> None:
    plan = CA.plan(lifetime=timedelta(hours=24))
    assert plan.not_before == CA.now - timedelta(seconds=60)
    assert plan.not_after == CA.now + timedelta(hours=24)


def test_a_leaf_ends_with_its_issuer_at_the_latest() -> None:
    ending = dataclasses.replace(CA.profile, issuer_not_after=CA.now + timedelta(minutes=5))
    ca = AuthorityForTests()
    object.__setattr__(ca, "profile", ending)
    assert ca.plan().not_after == CA.now + timedelta(minutes=5)


@pytest.mark.parametrize(
    ("identity", "lifetime_s", "field"),
    [
        (dataclasses.replace(IDENTITY, application=parse_application("other.example")), 60, "application"),
        (dataclasses.replace(IDENTITY, node=parse_node("n1.evil.example"), endpoints=()), 60, "node"),
        (dataclasses.replace(IDENTITY, node=parse_node("n1.notshop.example"), endpoints=()), 60, "node"),
        (IDENTITY, 59, "lifetime"),
        (IDENTITY, 86401, "lifetime"),
    ],
)
def test_what_does_not_fit_the_profile_is_not_planned(
    identity: Identity, lifetime_s: int, field: str
) -> None:
    with pytest.raises(BadInput) as refusal:
        CA.plan(identity, lifetime=timedelta(seconds=lifetime_s))
    assert refusal.value.field == field


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("ocsp_url", "https://127.0.0.1/ocsp"),
        ("ocsp_url", "http://ä/"),
        ("crl_base_url", "http://127.0.0.1/crl"),
        ("lifetime_s", 90_000),
        ("node_service_lifetime_s", 0),
    ],
)
def test_a_bad_configuration_names_its_option(option: str, value: object) -> None:
    config: ProfileConfig = dataclasses.replace(CONFIG, **{option: value})  # type: ignore[arg-type]
    with pytest.raises(Misconfigured) as refusal:
        check_profile(config, CA.issuing)
    assert refusal.value.field == option


def test_serial_numbers_have_159_bits() -> None:
    assert serial_number(b"\xff" * 20) == (1 << 159) - 1
    with pytest.raises(AssertionError):
        serial_number(bytes(20))


def test_the_chain_says_what_the_design_says() -> None:
    names = CA.issuing.extensions.get_extension_for_class(x509.NameConstraints)
    assert names.critical
    assert names.value.excluded_subtrees is None
    assert names.value.permitted_subtrees == [
        x509.DNSName(name) for name in ("shop.example", "nodes.shop.example", "compute.internal")
    ]
    assert CA.issuing.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length == 0
    title = CA.issuing.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
    assert str(title).startswith("Ostiary Issuing CA ")


def test_openssl_shows_every_field(tmp_path: Path) -> None:
    path = tmp_path / "leaf.pem"
    path.write_bytes(CA.leaf().public_bytes(Encoding.PEM))
    command = [require_tool("openssl"), "x509", "-in", str(path), "-noout", "-text"]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    for expected in (
        "DC = example, DC = shop, O = component-harness",
        f"OU = {NODE}, UID = {IDENTITY.agent}",
        f"URI:https+tcp://{HOST}:8443, DNS:{HOST}",
        "CA:FALSE",
        "Digital Signature",
        "TLS Web Client Authentication, TLS Web Server Authentication",
        f"OCSP - URI:{CONFIG.ocsp_url}",
        f"URI:{CONFIG.crl_base_url}3.crl",
        f"{CAPABILITIES_OID.dotted_string}:",
    ):
        assert expected in text, expected


def test_pycas_verifier_takes_the_leaf_as_client_and_as_server() -> None:
    store = verification.Store([CA.root])
    policy = verification.PolicyBuilder().store(store).time(CA.now)
    leaf = CA.leaf()
    client = policy.build_client_verifier().verify(leaf, [CA.issuing])
    assert [name.value for name in client.subjects or ()] == [name.value for name in ALTERNATIVE_NAME]
    policy.build_server_verifier(x509.DNSName(HOST)).verify(leaf, [CA.issuing])


def test_a_plain_agent_is_no_server() -> None:
    store = verification.Store([CA.root])
    verifier = (
        verification.PolicyBuilder().store(store).time(CA.now).build_server_verifier(x509.DNSName(HOST))
    )
    with pytest.raises(verification.VerificationError):
        verifier.verify(CA.leaf(CA.plan(PLAIN)), [CA.issuing])


def test_writing_a_certificate_is_little_work() -> None:
    """About 210 calls, a third of what a builder makes that encodes everything anew."""
    plan = CA.plan()
    assert calls_of(lambda: build_tbs(CA.profile, plan)) < 320
    assert spki_der(LEAF_KEY.public_key()) == plan.spki_der
