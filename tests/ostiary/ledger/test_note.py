"""Signed notes: keys and notes of other implementations, byte for byte."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ostiary.errors import BadInput
from ostiary.ledger.errors import NotProven
from ostiary.ledger.note import (
    KeyType,
    VerifierKey,
    add_cosignature,
    decode_base64,
    note_text,
    parse_verifier_key,
    sign_text,
    verified_signatures,
    verifier_key,
)

VECTORS = json.loads((Path(__file__).parent / "vectors" / "notes.json").read_text())
ENOCH_SECRET = Ed25519PrivateKey.from_private_bytes(bytes(32))


def published(name: str) -> bytes:
    note = VECTORS["notes"][name]
    lines = "".join(f"{line}\n" for line in note["signatures"])
    return f"{note['text']}\n{lines}".encode()


def key(name: str) -> VerifierKey:
    return parse_verifier_key(VECTORS["keys"][name])


@pytest.mark.parametrize("name", VECTORS["keys"])
def test_published_keys_read_and_print_unchanged(name: str) -> None:
    assert str(key(name)) == VECTORS["keys"][name]


def test_published_signatures_hold() -> None:
    assert verified_signatures(published("go"), [key("peter"), key("enoch")]) == {
        key("peter"): None,
        key("enoch"): None,
    }
    assert verified_signatures(published("go"), [key("peter")]) == {key("peter"): None}
    assert verified_signatures(published("foo"), [key("foo")]) == {key("foo"): None}


@pytest.mark.parametrize("name", ["peter", "enoch"])
def test_one_bad_signature_of_a_known_key_refuses_the_note(name: str) -> None:
    wrong = published("go").replace(b"cryptography", b"cryptographY")
    with pytest.raises(NotProven):
        verified_signatures(wrong, [key(name)])


def test_a_key_with_the_name_or_the_id_alone_is_another_key() -> None:
    same_name = VerifierKey(name="EnochRoot", key_type=KeyType.LOG, public_key=key("peter").public_key)
    assert verified_signatures(published("go"), [same_name]) == {}


def test_the_text_may_hold_empty_lines() -> None:
    text = "trafitto da un raggio di sole:\n\ned \u00e8 subito sera.\n"
    assert note_text(sign_text(text, "quasimodo.example/salvatore", ENOCH_SECRET)) == text


@pytest.mark.parametrize("at_s", [-1, 2**63])
def test_a_cosignature_has_a_time(at_s: int) -> None:
    with pytest.raises(BadInput, match="time"):
        add_cosignature(published("foo"), "w.example", ENOCH_SECRET, at_s=at_s)


def test_a_cosignature_with_a_short_payload_does_not_hold() -> None:
    witness = verifier_key("w.example", ENOCH_SECRET, KeyType.WITNESS)
    plain = sign_text("text\n", "w.example", ENOCH_SECRET)
    assert verified_signatures(plain, [witness]) == {}
    cosigned = add_cosignature(plain, "w.example", ENOCH_SECRET, at_s=9)
    assert verified_signatures(cosigned, [witness]) == {witness: 9}


@pytest.mark.parametrize("text", ["QUI", "QUJ=", "QUI=\n", "QU I=", "QUI=QUI=", "QUJD=", "QU-_", "\u00e9"])
def test_base64_has_one_spelling(text: str) -> None:
    assert decode_base64("QUI=", field="x") == b"AB"
    with pytest.raises(BadInput):
        decode_base64(text, field="x")


def test_a_signature_line_without_a_signature() -> None:
    with pytest.raises(BadInput, match="no signature"):
        note_text("text\n\n\u2014 else.example/x AAAAAA==\n".encode())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "example.com/foo",
        "example.com/foo+530d903b+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        "example.com/foo+530D903A+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        "example.com/fop+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        "PeterNeumann+173116ae+ZRpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "PeterNeumann+cc469956+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TWBADKEY==",
        " +530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
    ],
)
def test_text_that_is_no_verifier_key(text: str) -> None:
    with pytest.raises(BadInput):
        parse_verifier_key(text)
