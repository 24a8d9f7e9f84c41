"""Assembling and parsing of what another process signs."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from ostiary import certificate as subject
from ostiary.certificate import (
    assemble,
    parse_serial_hex,
    parse_tbs,
    serial_hex,
    signature_algorithm,
    spki_digest,
)
from ostiary.errors import BadInput
from tests.support.certificates import KEY, build_certificate


def test_a_signature_made_elsewhere_gives_a_certificate() -> None:
    tbs = build_certificate().tbs_certificate_bytes
    signed = assemble(tbs, signature_algorithm(KEY.public_key()), KEY.sign(tbs, ec.ECDSA(hashes.SHA256())))
    from cryptography import x509

    certificate = x509.load_der_x509_certificate(signed)
    certificate.verify_directly_issued_by(certificate)
    assert certificate.public_bytes(Encoding.DER) == signed


def test_to_be_signed_bytes_are_parsed() -> None:
    certificate = build_certificate()
    parsed = parse_tbs(certificate.tbs_certificate_bytes)
    assert parsed.tbs_certificate_bytes == certificate.tbs_certificate_bytes
    assert spki_digest(parsed) == spki_digest(certificate)


@given(st.binary(max_size=80))
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(BadInput):
        parse_tbs(data)


def test_algorithms_by_key() -> None:
    assert signature_algorithm(KEY.public_key()) == bytes.fromhex("300a06082a8648ce3d040302")
    p384 = ec.generate_private_key(ec.SECP384R1()).public_key()
    assert signature_algorithm(p384) == bytes.fromhex("300a06082a8648ce3d040303")
    assert signature_algorithm(ed25519.Ed25519PrivateKey.generate().public_key()) == bytes.fromhex(
        "300506032b6570"
    )
    rsa_key = rsa.generate_private_key(65537, 2048).public_key()
    assert signature_algorithm(rsa_key) == bytes.fromhex("300d06092a864886f70d01010b0500")
    with pytest.raises(BadInput):
        signature_algorithm(ec.generate_private_key(ec.SECP521R1()).public_key())


@given(st.integers(1, (1 << 159) - 1))
def test_a_serial_number_is_read_as_it_was_printed(serial_number: int) -> None:
    text = serial_hex(serial_number)
    assert parse_serial_hex(text) == serial_number
    assert len(text) % 2 == 0
    assert text == subject.serial_hex(serial_number).lower()


@pytest.mark.parametrize("text", ["", "0", "00", "001f", "1F", "0x1f", "1f ", "1f\n", "ab" * 21])
def test_another_spelling_of_a_serial_number_is_refused(text: str) -> None:
    with pytest.raises(BadInput):
        parse_serial_hex(text)
