"""Signing a note: keys with their names, and the one signature that a log puts under a text.

Rules (C2SP signed-note; Ed25519 of RFC 8032):
- note = text ending in a newline, an empty line, signature lines; the signature covers the text with its last
  newline;
- signature line = U+2014, space, key name, space, base64(key id || signature);
- key id = SHA-256(key name || 0x0A || type || public key)[:4];
- a key as text = `<name>+<key id in hex>+base64(type || public key)`.

Reading notes, and the cosignatures of witnesses, are left to `ostiary.ledger.note`.
"""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from enum import IntEnum
from hashlib import sha256

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ostiary.errors import BadInput

__all__ = [
    "KEY_ID_BYTES",
    "SIGNATURE_PREFIX",
    "KeyType",
    "VerifierKey",
    "check_name",
    "sign_text",
    "signature_line",
    "verifier_key",
]

# Four bytes are the specification's: a hint which key to try, never a proof. The signature decides.
KEY_ID_BYTES = 4
# An em dash and a space, so that a signature line is never mistaken for a line of text.
SIGNATURE_PREFIX = "\u2014 "
_PUBLIC_KEY_BYTES = 32


class KeyType(IntEnum):
    """The signature types of C2SP signed-note that we speak."""

    LOG = 0x01
    WITNESS = 0x04


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifierKey:
    """A public key with the name under which it signs; `str` gives the text form."""

    name: str
    key_type: KeyType
    public_key: bytes

    def __post_init__(self) -> None:
        check_name(self.name)
        if len(self.public_key) != _PUBLIC_KEY_BYTES:
            raise BadInput("an Ed25519 public key must be 32 bytes long", field="public_key")

    @property
    def key_id(self) -> bytes:
        """The four bytes that name this key in a signature line; no commitment to it."""
        # The name ends at the newline, which no name may hold: two keys never share what is hashed.
        identified = self.name.encode() + b"\n" + bytes([self.key_type]) + self.public_key
        return sha256(identified).digest()[:KEY_ID_BYTES]

    def __str__(self) -> str:
        material = b64encode(bytes([self.key_type]) + self.public_key).decode()
        return f"{self.name}+{self.key_id.hex()}+{material}"


def verifier_key(name: str, private_key: Ed25519PrivateKey, key_type: KeyType) -> VerifierKey:
    """Return the public half of a key under its name."""
    return VerifierKey(name=name, key_type=key_type, public_key=private_key.public_key().public_bytes_raw())


def sign_text(text: str, name: str, private_key: Ed25519PrivateKey) -> bytes:
    """Return the note of a text that ends in a newline, with one signature of type 0x01; deterministic."""
    if not text.endswith("\n"):
        raise BadInput("the text of a note must end in a newline", field="text")
    key_id = verifier_key(name, private_key, KeyType.LOG).key_id
    return f"{text}\n{signature_line(name, key_id + private_key.sign(text.encode()))}".encode()


def check_name(name: str) -> None:
    """Refuse what cannot name a key: empty text, spaces, control characters, plus."""
    # Spaces and "+" separate the fields of a signature line and of a verifier key.
    # Not printable covers control characters, line ends and every Unicode space but U+0020.
    if not name or " " in name or "+" in name or not name.isprintable():
        raise BadInput(f"{name!r} is not a name; wanted printable text without space and plus", field="name")


def signature_line(name: str, signature: bytes) -> str:
    """Return the line of a signature; `signature` begins with the key id."""
    return f"{SIGNATURE_PREFIX}{name} {b64encode(signature).decode()}\n"
