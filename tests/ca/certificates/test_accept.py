"""Requests: forms, keys, signatures and names that are taken, and each that isn't, wrong in one respect."""

from __future__ import annotations

import base64
import dataclasses
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AttributeOID, NameOID
from hypothesis import given
from hypothesis import strategies as st

from ca.certificates.accept import MAX_CSR_BYTES, CSRBytes, accept, check_names
from ostiary.certificate import spki_digest
from ostiary.errors import BadInput
from tests.support.certificates import AGENT, HOST, IDENTITY, NODE, SUBJECT, URL, Attribute
from tests.support.need import require_tool

SHA256 = hashes.SHA256()
KEY = ec.generate_private_key(ec.SECP256R1())


def build_csr(
    *,
    key: Any = KEY,
    subject: list[x509.NameAttribute[Any]] | None = None,
    names: list[x509.GeneralName] | None = None,
    extensions: tuple[x509.ExtensionType, ...] = (),
    password: bytes | None = None,
    hash_algorithm: Any = SHA256,
) -> bytes:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(subject or []))
    for extension in (*extensions, *([x509.SubjectAlternativeName(names)] if names else [])):
        builder = builder.add_extension(extension, critical=False)
    if password is not None:
        builder = builder.add_attribute(AttributeOID.CHALLENGE_PASSWORD, password)
    return builder.sign(key, hash_algorithm).public_bytes(Encoding.DER)


@pytest.mark.parametrize(
    ("key", "hash_algorithm"),
    [
        (KEY, hashes.SHA256()),
        (ec.generate_private_key(ec.SECP384R1()), hashes.SHA384()),
        (ed25519.Ed25519PrivateKey.generate(), None),
        (rsa.generate_private_key(65537, 2048), hashes.SHA512()),
    ],
    ids=["P-256", "P-384", "Ed25519", "RSA-2048"],
)
def test_our_key_types_are_taken(key: Any, hash_algorithm: Any) -> None:
    encoded = build_csr(key=key, hash_algorithm=hash_algorithm)
    accepted = accept(CSRBytes(encoded))
    assert accepted.csr_der == encoded
    assert accepted.spki_digest == spki_digest(x509.load_der_x509_csr(encoded))


def test_est_bodies_are_taken() -> None:
    encoded = build_csr(password=b"ignored")
    accepted = accept(CSRBytes(encoded))
    assert accept(CSRBytes(base64.b64encode(encoded))) == accepted
    assert accept(CSRBytes(base64.encodebytes(encoded).replace(b"\n", b"\r\n"))) == accepted


WEAK: dict[str, tuple[Any, Any, str]] = {
    "RSA-1024": (rsa.generate_private_key(65537, 1024), hashes.SHA256(), "public_key"),  # noqa: S505
    "exponent 3": (rsa.generate_private_key(3, 2048), hashes.SHA256(), "public_key"),
    "P-521": (ec.generate_private_key(ec.SECP521R1()), hashes.SHA256(), "public_key"),
    "secp256k1": (ec.generate_private_key(ec.SECP256K1()), hashes.SHA256(), "public_key"),
    "SHA-224": (KEY, hashes.SHA224(), "csr"),
}


@pytest.mark.parametrize("case", WEAK)
def test_weak_or_unusual_keys_are_refused_naming_what_was_wanted(case: str) -> None:
    key, hash_algorithm, field = WEAK[case]
    with pytest.raises(BadInput, match="wanted") as refusal:
        accept(CSRBytes(build_csr(key=key, hash_algorithm=hash_algorithm)))
    assert refusal.value.field == field


def test_a_request_signed_by_another_key_is_refused() -> None:
    encoded = bytearray(build_csr())
    encoded[-1] ^= 1
    with pytest.raises(BadInput, match="signature"):
        accept(CSRBytes(bytes(encoded)))


def test_the_names_are_covered_by_the_signature() -> None:
    encoded = build_csr(subject=[Attribute(NameOID.COMMON_NAME, "aaaa")]).replace(b"aaaa", b"aaab")
    with pytest.raises(BadInput, match="signature"):
        accept(CSRBytes(encoded))


@pytest.mark.parametrize(
    "body",
    [b"", b"\x30", b"\x30\x03\x02\x01\x00", b"!!!", b"aGVsbG8=", b"-----BEGIN CERTIFICATE REQUEST-----"],
)
def test_other_bytes_are_refused(body: bytes) -> None:
    with pytest.raises(BadInput) as refusal:
        accept(CSRBytes(body))
    assert refusal.value.field == "csr"


def test_a_large_body_is_refused_before_it_is_read() -> None:
    with pytest.raises(BadInput, match="at most"):
        accept(CSRBytes(b"A" * (MAX_CSR_BYTES + 1)))


def test_a_name_that_is_no_text_is_refused() -> None:
    encoded = build_csr(subject=[Attribute(NameOID.ORGANIZATION_NAME, "aaaa")])
    as_bits = encoded.replace(b"\x0c\x04aaaa", b"\x03\x04\x00aaa")
    assert as_bits != encoded
    with pytest.raises(BadInput) as refused:
        accept(CSRBytes(as_bits))
    assert refused.value.field == "csr"


GOOD = build_csr(subject=list(SUBJECT), names=[x509.DNSName(HOST)])


@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255))
def test_no_changed_octet_passes(position: int, change: int) -> None:
    broken = bytearray(GOOD)
    broken[position] ^= change
    with pytest.raises(BadInput):
        accept(CSRBytes(bytes(broken)))


@pytest.mark.parametrize(
    "wish",
    [
        {},
        {"subject": list(SUBJECT)},
        {"subject": [Attribute(NameOID.COMMON_NAME, HOST)]},
        {"names": [x509.DNSName(HOST)]},
        {"names": [x509.UniformResourceIdentifier(URL), x509.DNSName(HOST)]},
        {"extensions": (x509.BasicConstraints(ca=False, path_length=None),)},
    ],
    ids=["nothing", "whole subject", "CN", "DNS name", "URI", "end entity"],
)
def test_names_that_fit_are_taken(wish: dict[str, Any]) -> None:
    check_names(accept(CSRBytes(build_csr(**wish))), IDENTITY)


@pytest.mark.parametrize(
    ("wish", "field"),
    [
        ({"subject": [Attribute(NameOID.COMMON_NAME, "root")]}, "subject.CN"),
        ({"subject": [Attribute(NameOID.ORGANIZATION_NAME, "node-controller")]}, "subject.O"),
        ({"subject": [Attribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "n2.nodes.shop.example")]}, "subject.OU"),
        ({"subject": [Attribute(NameOID.DOMAIN_COMPONENT, "other")]}, "subject.DC"),
        ({"subject": [Attribute(NameOID.USER_ID, AGENT.replace("5", "6"))]}, "subject.UID"),
        ({"subject": [Attribute(NameOID.COUNTRY_NAME, "RO")]}, "subject.2.5.4.6"),
        ({"names": [x509.DNSName("evil.example")]}, "subject_alternative_name"),
        ({"names": [x509.DNSName(NODE)]}, "subject_alternative_name"),
        ({"names": [x509.UniformResourceIdentifier(HOST)]}, "subject_alternative_name"),
        ({"names": [x509.RFC822Name("a@shop.example")]}, "subject_alternative_name"),
        ({"extensions": (x509.BasicConstraints(ca=True, path_length=None),)}, "csr"),
    ],
)
def test_names_that_contradict_are_refused(wish: dict[str, Any], field: str) -> None:
    accepted = accept(CSRBytes(build_csr(**wish)))
    with pytest.raises(BadInput) as refusal:
        check_names(accepted, IDENTITY)
    assert refusal.value.field == field


def test_a_service_may_ask_for_its_node() -> None:
    accepted = accept(CSRBytes(build_csr(names=[x509.DNSName(NODE)])))
    check_names(accepted, dataclasses.replace(IDENTITY, node_name_in_san=True))


def test_a_request_made_by_openssl_is_taken(tmp_path: Path) -> None:
    out = tmp_path / "csr.der"
    command = [
        require_tool("openssl"),
        "req",
        "-new",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
    ]
    command += [
        "-keyout",
        str(tmp_path / "key.pem"),
        "-subj",
        f"/CN={HOST}",
        "-outform",
        "DER",
        "-out",
        str(out),
    ]
    subprocess.run(command, check=True, capture_output=True)
    check_names(accept(CSRBytes(out.read_bytes())), IDENTITY)
