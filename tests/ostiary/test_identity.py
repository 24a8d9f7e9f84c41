"""The mapping between identity and certificate: exact in both directions; each bad case differs in one
respect.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from ostiary.errors import BadInput
from ostiary.identity import (
    Identity,
    identity_of,
    parse_agent_id,
    parse_application,
    parse_endpoint,
    parse_node,
    parse_subsystem,
    subject_alternative_name_der,
    subject_der,
)
from tests.support.certificates import (
    AGENT,
    ALTERNATIVE_NAME,
    HOST,
    IDENTITY,
    NODE,
    SUBJECT,
    URL,
    Attribute,
    build_certificate,
)
from tests.support.work import calls_of

DC, ORG, OU, UID = (
    NameOID.DOMAIN_COMPONENT,
    NameOID.ORGANIZATION_NAME,
    NameOID.ORGANIZATIONAL_UNIT_NAME,
    NameOID.USER_ID,
)


def test_a_certificate_of_ours_is_read_back() -> None:
    assert identity_of(build_certificate()) == IDENTITY


def test_our_encoders_agree_with_pyca() -> None:
    assert subject_der(IDENTITY) == x509.Name(SUBJECT).public_bytes()
    assert (
        subject_alternative_name_der(IDENTITY) == x509.SubjectAlternativeName(ALTERNATIVE_NAME).public_bytes()
    )


def test_a_pending_certificate_has_no_capabilities() -> None:
    assert identity_of(build_certificate(capabilities=None)).capabilities == frozenset()


def test_a_service_certificate_also_carries_its_node() -> None:
    certificate = build_certificate(alternative_name=(*ALTERNATIVE_NAME, x509.DNSName(NODE)))
    identity = identity_of(certificate)
    assert identity.node_name_in_san
    assert identity == dataclasses.replace(IDENTITY, node_name_in_san=True)


def replaced(position: int, attribute: x509.NameAttribute[Any]) -> x509.Name:
    return x509.Name([*SUBJECT[:position], attribute, *SUBJECT[position + 1 :]])


BAD_SUBJECTS = {
    "no DC": (x509.Name(SUBJECT[2:]), "subject.DC"),
    "no UID": (x509.Name(SUBJECT[:-1]), "subject.O"),
    "O after OU": (x509.Name([*SUBJECT[:2], SUBJECT[3], SUBJECT[2], SUBJECT[4]]), "subject.O"),
    "UID before OU": (x509.Name([*SUBJECT[:3], SUBJECT[4], SUBJECT[3]]), "subject.OU"),
    "DC last": (x509.Name([*SUBJECT[1:], SUBJECT[0]]), "subject.DC"),
    "labels of DC turned round": (x509.Name([SUBJECT[1], SUBJECT[0], *SUBJECT[2:]]), None),
    "CN besides": (x509.Name([*SUBJECT, Attribute(NameOID.COMMON_NAME, "x")]), "subject.DC"),
    "CN instead of UID": (replaced(4, Attribute(NameOID.COMMON_NAME, AGENT)), "subject.UID"),
    "O twice": (x509.Name([*SUBJECT[:3], SUBJECT[2], *SUBJECT[3:]]), "subject.DC"),
    "RDN with two attributes": (
        x509.Name(
            [
                *(x509.RelativeDistinguishedName([a]) for a in SUBJECT[:2]),
                x509.RelativeDistinguishedName(SUBJECT[2:4]),
                x509.RelativeDistinguishedName(SUBJECT[4:]),
            ]
        ),
        "subject",
    ),
    "upper case in DC": (replaced(1, Attribute(DC, "Shop")), "application"),
    "upper case in O": (replaced(2, Attribute(ORG, "Component-harness")), "subsystem"),
    "upper case in OU": (replaced(3, Attribute(OU, NODE.upper())), "node"),
    "upper case in UID": (replaced(4, Attribute(UID, AGENT.upper())), "agent"),
    "OU of 65 characters": (replaced(3, Attribute(OU, "n" * 52 + ".shop.example")), "node"),
    "OU is not fully qualified": (replaced(3, Attribute(OU, "n1")), "node"),
    "OU is an address": (replaced(3, Attribute(OU, "10.0.0.1")), "node"),
    "OU ends with a dot": (replaced(3, Attribute(OU, NODE + ".")), "node"),
    "OU with an underscore": (replaced(3, Attribute(OU, "n_1.shop.example")), "node"),
    "OU ends with a newline": (replaced(3, Attribute(OU, NODE + "\n")), "node"),
    "DC with a dot inside": (
        x509.Name([Attribute(DC, "shop.example"), *SUBJECT[2:]]),
        "subject",
    ),
    "UID is no UUID": (replaced(4, Attribute(UID, "agent-1")), "agent"),
    "UID as IA5String": (replaced(4, Attribute(UID, AGENT, _ASN1Type.IA5String)), "subject"),
    "O as PrintableString": (
        replaced(2, Attribute(ORG, "component-harness", _ASN1Type.PrintableString)),
        "subject",
    ),
    "DC as UTF8String": (replaced(1, Attribute(DC, "shop", _ASN1Type.UTF8String)), "subject"),
}


@pytest.mark.parametrize("case", BAD_SUBJECTS)
def test_a_subject_that_does_not_map_is_refused(case: str) -> None:
    subject, field = BAD_SUBJECTS[case]
    if field is None:  # another application: a right certificate, not ours
        assert identity_of(build_certificate(subject=subject)).application == "example.shop"
        return
    with pytest.raises(BadInput) as refusal:
        identity_of(build_certificate(subject=subject))
    assert refusal.value.field == field


DNS, URI = x509.DNSName, x509.UniformResourceIdentifier
OTHER_HOST = f"00000000-0000-4000-8000-000000000000.{NODE}"
BAD_NAMES: dict[str, tuple[tuple[x509.GeneralName, ...] | None, str]] = {
    "no extension": (None, "subject_alternative_name"),
    "no DNS name": ((URI(URL),), "subject_alternative_name"),
    "DNS name twice": ((URI(URL), DNS(HOST), DNS(HOST)), "subject_alternative_name"),
    "DNS name of another agent": ((URI(URL), DNS(OTHER_HOST)), "subject_alternative_name"),
    "node before host": ((URI(URL), DNS(NODE), DNS(HOST)), "subject_alternative_name"),
    "a third DNS name": ((URI(URL), DNS(HOST), DNS(NODE), DNS("a.example")), "subject_alternative_name"),
    "wildcard": ((URI(URL), DNS(f"*.{NODE}")), "subject_alternative_name"),
    "upper-case DNS name": ((URI(URL), DNS(HOST.upper())), "subject_alternative_name"),
    "URI after DNS": ((DNS(HOST), URI(URL)), "subject_alternative_name"),
    "mail address": ((URI(URL), DNS(HOST), x509.RFC822Name("a@shop.example")), "subject_alternative_name"),
    "URI twice": ((URI(URL), URI(URL), DNS(HOST)), "endpoints"),
    "URI of another agent": ((URI(f"https+tcp://{OTHER_HOST}:8443"), DNS(HOST)), "endpoints"),
    "URI without port": ((URI(f"https+tcp://{HOST}"), DNS(HOST)), "endpoints"),
    "URI with path": ((URI(f"{URL}/x"), DNS(HOST)), "endpoints"),
    "URI with user": ((URI(f"https+tcp://u@{HOST}:8443"), DNS(HOST)), "endpoints"),
    "URI without transport": ((URI(f"https://{HOST}:8443"), DNS(HOST)), "endpoints"),
    "URI port 65536": ((URI(f"https+tcp://{HOST}:65536"), DNS(HOST)), "endpoints"),
    "URI port with a leading zero": ((URI(f"https+tcp://{HOST}:08443"), DNS(HOST)), "endpoints"),
    "upper-case URI": ((URI(f"HTTPS+tcp://{HOST}:8443"), DNS(HOST)), "endpoints"),
    "seventeen URIs": (
        (*(URI(f"https+tcp://{HOST}:{port}") for port in range(1, 18)), DNS(HOST)),
        "endpoints",
    ),
}


@pytest.mark.parametrize("case", BAD_NAMES)
def test_an_alternative_name_that_does_not_map_is_refused(case: str) -> None:
    names, field = BAD_NAMES[case]
    with pytest.raises(BadInput) as refusal:
        identity_of(build_certificate(alternative_name=names))
    assert refusal.value.field == field


BAD_CAPABILITIES = {
    "empty instead of absent": "3000",
    "not sorted": "3008 0c03 623a62 0c01 61",
    "sorted wrongly": "300a 0c03 623a62 0c03 613a61",
    "double": "300a 0c03 613a61 0c03 613a61",
    "IA5String": "3005 1603 613a61",
    "upper case": "3005 0c03 413a61",
    "wildcard": "3009 0c07 737061776e3a2a",
    "trailing octet": "3005 0c03 613a61 00",
    "length not minimal": "308105 0c03 613a61",
    "not a sequence": "0c03 613a61",
    "not ASCII": "3006 0c04 613ac3a4",
}


@pytest.mark.parametrize("case", BAD_CAPABILITIES)
def test_capabilities_in_another_form_are_refused(case: str) -> None:
    value = bytes.fromhex(BAD_CAPABILITIES[case])
    with pytest.raises(BadInput):
        identity_of(build_certificate(capabilities=value))


def test_a_critical_capabilities_extension_is_refused() -> None:
    with pytest.raises(BadInput, match="critical"):
        identity_of(build_certificate(capabilities_critical=True))


label = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,6}[a-z0-9])?", fullmatch=True)
top = st.from_regex(r"[a-z]{2,5}", fullmatch=True)
dns_name = st.tuples(st.lists(label, min_size=1, max_size=4), top).map(
    lambda parts: ".".join([*parts[0], parts[1]])
)
subsystem = st.from_regex(r"[a-z][a-z0-9]{0,8}(-[a-z0-9]{1,8}){0,2}", fullmatch=True)
port = st.integers(1, 65535)


@st.composite
def identities(draw: st.DrawFn) -> Identity:
    agent, node = str(draw(st.uuids())), draw(dns_name)
    ports = draw(st.lists(port, unique=True, max_size=4))
    return Identity(
        application=parse_application(draw(dns_name)),
        subsystem=parse_subsystem(draw(subsystem)),
        node=parse_node(node),
        agent=parse_agent_id(agent),
        endpoints=tuple(parse_endpoint(f"https+tcp://{agent}.{node}:{number}") for number in ports),
        capabilities=frozenset(),
        node_name_in_san=draw(st.booleans()),
    )


@given(identities())
def test_printing_then_reading_is_identity(identity: Identity) -> None:
    names: list[x509.GeneralName] = [URI(str(endpoint)) for endpoint in identity.endpoints]
    names += [DNS(identity.host)] + [DNS(identity.node)] * identity.node_name_in_san
    subject = x509.Name(
        [
            *(Attribute(DC, part) for part in reversed(identity.application.split("."))),
            Attribute(ORG, identity.subsystem),
            Attribute(OU, identity.node),
            Attribute(UID, identity.agent),
        ]
    )
    certificate = build_certificate(subject=subject, alternative_name=tuple(names), capabilities=None)
    assert identity_of(certificate) == identity
    assert subject_der(identity) == subject.public_bytes()


@given(identities())
def test_an_endpoint_is_read_as_it_is_printed(identity: Identity) -> None:
    assert tuple(parse_endpoint(str(endpoint)) for endpoint in identity.endpoints) == identity.endpoints


def test_a_name_that_is_no_text_is_refused() -> None:
    encoded = build_certificate().public_bytes(Encoding.DER)
    as_bits = encoded.replace(b"\x0c\x11component-harness", b"\x03\x11\x00omponent-harness")
    assert as_bits != encoded
    with pytest.raises(BadInput):
        identity_of(x509.load_der_x509_certificate(as_bits))


def test_reading_an_identity_is_little_work() -> None:
    """About 400 calls for a certificate never seen before."""
    encoded = build_certificate().public_bytes(Encoding.DER)
    assert calls_of(lambda: identity_of(x509.load_der_x509_certificate(encoded))) < 600
