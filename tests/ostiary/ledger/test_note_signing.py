"""Signing a note: the keys and the bytes of other implementations."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ostiary.errors import BadInput
from ostiary.ledger.note_signing import KeyType, VerifierKey, check_name, sign_text, verifier_key

VECTORS = json.loads((Path(__file__).parent / "vectors" / "notes.json").read_text())
ENOCH_SECRET = Ed25519PrivateKey.from_private_bytes(bytes(32))


def test_key_id_of_the_specification() -> None:
    material = bytes.fromhex("e932791ae6e7a840a46164c904786426d5e7821dd8b29a00d61cae72afdd4da4")
    foo = VerifierKey(name="example.com/foo", key_type=KeyType.LOG, public_key=material)
    assert foo.key_id.hex() == "530d903a"
    assert str(foo) == VECTORS["keys"]["foo"]


def test_we_sign_as_the_go_implementation_does() -> None:
    note = VECTORS["notes"]["go"]
    assert str(verifier_key("EnochRoot", ENOCH_SECRET, KeyType.LOG)) == VECTORS["keys"]["enoch"]
    signed = sign_text(note["text"], "EnochRoot", ENOCH_SECRET).decode()
    assert signed == f"{note['text']}\n{note['signatures'][1]}\n"


def test_a_key_of_another_length() -> None:
    with pytest.raises(BadInput, match="32 bytes"):
        VerifierKey(name="x", key_type=KeyType.LOG, public_key=bytes(31))


def test_a_text_without_its_newline_is_not_signed() -> None:
    with pytest.raises(BadInput, match="newline"):
        sign_text("text", "w.example", ENOCH_SECRET)


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\nb", "a\u2028b", "a\x00"])
def test_what_names_no_key(name: str) -> None:
    with pytest.raises(BadInput, match="is not a name"):
        check_name(name)
