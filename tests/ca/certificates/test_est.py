"""EST bodies as openssl reads them, and the Authorization header in its one form."""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from ca.certificates.est import certs_only, csr_attributes, parse_authorization
from ostiary.errors import Unauthenticated
from ostiary.token import RANDOM_BYTES, mint
from tests.support.ca_authority import AuthorityForTests
from tests.support.need import require_tool

CA = AuthorityForTests()
TOKEN = mint(bytes(range(RANDOM_BYTES)))


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def test_certificates_travel_as_base64_of_certs_only_pkcs7(tmp_path: Path) -> None:
    body = certs_only([CA.issuing, CA.root])
    assert b"\n" not in body  # strongSwan 5.9.8 stops there
    encoded = base64.b64decode(body)
    assert set(pkcs7.load_der_pkcs7_certificates(encoded)) == {CA.issuing, CA.root}
    (tmp_path / "certs.p7").write_bytes(encoded)
    command = [
        require_tool("openssl"),
        "pkcs7",
        "-inform",
        "DER",
        "-in",
        str(tmp_path / "certs.p7"),
        "-print_certs",
    ]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    for certificate in (CA.issuing, CA.root):
        assert certificate.public_bytes(Encoding.PEM).decode() in text


def test_csr_attributes_ask_for_p256(tmp_path: Path) -> None:
    (tmp_path / "attributes").write_bytes(base64.b64decode(csr_attributes()))
    command = [require_tool("openssl"), "asn1parse", "-inform", "DER", "-in", str(tmp_path / "attributes")]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert [line.rpartition(":")[2].strip() for line in text.splitlines() if "OBJECT" in line] == [
        "id-ecPublicKey",
        "prime256v1",
        "ecdsa-with-SHA256",
    ]


def test_a_token_is_read_from_basic_authentication() -> None:
    assert parse_authorization(basic(TOKEN.id, TOKEN.reveal())) == TOKEN
    assert parse_authorization(basic(TOKEN.id, TOKEN.reveal()).replace("Basic", "basic")) == TOKEN


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Basic",
        "Basic !!!",
        "Bearer " + basic(TOKEN.id, TOKEN.reveal())[6:],
        basic("", TOKEN.reveal()),
        basic(mint(bytes(RANDOM_BYTES)).id, TOKEN.reveal()),
        basic(TOKEN.id, TOKEN.reveal()[:-1]),
        basic(TOKEN.id, ""),
        basic(TOKEN.id, "x" * 5000),
        "Basic " + base64.b64encode(b"\xff:\xff").decode(),
        "Basic ä",
    ],
)
def test_anything_else_is_unauthenticated_and_not_repeated(header: str | None) -> None:
    with pytest.raises(Unauthenticated) as refusal:
        parse_authorization(header)
    assert TOKEN.reveal()[21:40] not in refusal.value.message
