"""Signed notes: a text, and the keys that sign it. Reading them, and adding a witness's cosignature.

Rules (C2SP signed-note and tlog-cosignature; Ed25519 of RFC 8032):
- note = text ending in a newline, an empty line, signature lines; the signature covers the text with its last
  newline;
- signature line = U+2014, space, key name, space, base64(key id || signature);
- key id = SHA-256(key name || 0x0A || type || public key)[:4];
- type 0x01 signs the text; type 0x04 is a witness's cosignature, `timestamp (8 bytes, big-endian) ||
  signature`, over `cosignature/v1`, `time <seconds>`, each on a line, and the text;
- a key as text = `<name>+<key id in hex>+base64(type || public key)`;
- signatures of unknown keys are ignored, a known key's bad signature refuses the whole note.

Keys and signing: `ostiary.ledger.note_signing`. What the text says, and whose signature it needs, is left to
`ostiary.ledger.checkpoint`.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Iterable
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ostiary.errors import BadInput
from ostiary.ledger.errors import NotProven
from ostiary.ledger.note_signing import (
    KEY_ID_BYTES,
    SIGNATURE_PREFIX,
    KeyType,
    VerifierKey,
    check_name,
    sign_text,
    signature_line,
    verifier_key,
)

__all__ = [
    "KeyType",
    "VerifierKey",
    "add_cosignature",
    "check_name",
    "decode_base64",
    "note_text",
    "parse_verifier_key",
    "sign_text",
    "verified_signatures",
    "verifier_key",
]

# The specification asks readers to take sixteen signatures; as ML-DSA-44 ones they have 2,420 bytes each, in
# base64 52 KiB. 64 signatures and 256 KiB leave room for public witnesses.
MAX_NOTE_BYTES = 256 * 1024
MAX_SIGNATURES = 64
_TIMESTAMP_BYTES = 8
_MAX_TIME_S = 2**63 - 1


@dataclass(frozen=True, slots=True)
class _Signature:
    name: str
    key_id: bytes
    payload: bytes


def parse_verifier_key(text: str) -> VerifierKey:
    """Read `<name>+<key id>+<base64>`; raises BadInput, also where the key id is not this key's."""
    name, _, rest = text.partition("+")
    key_id, _, encoded = rest.partition("+")
    material = decode_base64(encoded, field="verifier key")
    try:
        key_type = KeyType(material[0])
    except (ValueError, IndexError) as exc:
        raise BadInput("the verifier key is of an unknown type", field="verifier key") from exc
    key = VerifierKey(name=name, key_type=key_type, public_key=material[1:])
    if str(key) != text:
        raise BadInput(
            f"the verifier key says id {key_id!r}; it is {key.key_id.hex()!r}", field="verifier key"
        )
    return key


def add_cosignature(note: bytes, name: str, private_key: Ed25519PrivateKey, *, at_s: int) -> bytes:
    """Return the note with a witness's cosignature (type 0x04) added.

    It says: the largest consistent tree that was seen at `at_s` (seconds since 1970). The caller has opened
    the note and proven its consistency with what it saw before.
    """
    text, _ = _split(note)
    if not 0 <= at_s <= _MAX_TIME_S:
        raise BadInput(f"{at_s} is not a time in seconds", field="at_s")
    key_id = verifier_key(name, private_key, KeyType.WITNESS).key_id
    payload = at_s.to_bytes(_TIMESTAMP_BYTES, "big") + private_key.sign(_cosigned(text, at_s))
    return note + signature_line(name, key_id + payload).encode()


def note_text(note: bytes) -> str:
    """Return the text of a note whose form is right; proves nothing."""
    return _split(note)[0]


def verified_signatures(note: bytes, keys: Iterable[VerifierKey]) -> dict[VerifierKey, int | None]:
    """Return the known keys whose signatures hold, with the time of a cosignature (seconds) or None.

    Raises BadInput for what is no note, NotProven where a known key's signature does not hold.
    """
    text, signatures = _split(note)
    # By name and id: an id alone is four bytes, which anybody can collide with on purpose.
    known = {(key.name, key.key_id): key for key in keys}
    found: dict[VerifierKey, int | None] = {}
    for signature in signatures:
        key = known.get((signature.name, signature.key_id))
        if key is not None:
            found[key] = _check_signature(text, signature, key)
    return found


def decode_base64(text: str, *, field: str) -> bytes:
    """Read base64 of RFC 4648 section 4 in its only canonical form, so that one value has one text."""
    try:
        data = b64decode(text, validate=True)
    except (Base64Error, ValueError) as exc:
        raise BadInput("the text is not base64", field=field) from exc
    # validate=True still takes stray bits in the last character ("QUJ=" is "QUI="): two texts of one
    # signature.
    if b64encode(data).decode() != text:
        raise BadInput("the base64 text has stray bits or padding", field=field)
    return data


def _cosigned(text: str, at_s: int) -> bytes:
    return f"cosignature/v1\ntime {at_s}\n{text}".encode()


def _split(note: bytes) -> tuple[str, list[_Signature]]:
    if len(note) > MAX_NOTE_BYTES:
        raise BadInput(f"the note has {len(note)} bytes; at most {MAX_NOTE_BYTES} are read", field="note")
    try:
        content = note.decode()
    except UnicodeDecodeError as exc:
        raise BadInput("the note is not UTF-8", field="note") from exc
    if any(character < " " and character != "\n" for character in content):
        raise BadInput("the note holds a control character", field="note")
    # From the right: the text may hold empty lines, the signatures may not.
    text, separator, block = content.rpartition("\n\n")
    if not separator or not block.endswith("\n"):
        raise BadInput("the note has no signatures after an empty line", field="note")
    lines = block[:-1].split("\n")
    if len(lines) > MAX_SIGNATURES:
        raise BadInput(
            f"the note has {len(lines)} signatures; at most {MAX_SIGNATURES} are read", field="note"
        )
    return text + "\n", [_parse_signature(line) for line in lines]


def _parse_signature(line: str) -> _Signature:
    if not line.startswith(SIGNATURE_PREFIX):
        raise BadInput("a signature line does not start with a dash", field="note")
    name, _, encoded = line.removeprefix(SIGNATURE_PREFIX).partition(" ")
    check_name(name)
    data = decode_base64(encoded, field="note")
    if len(data) <= KEY_ID_BYTES:
        raise BadInput("a signature line holds no signature", field="note")
    return _Signature(name, data[:KEY_ID_BYTES], data[KEY_ID_BYTES:])


def _check_signature(text: str, signature: _Signature, key: VerifierKey) -> int | None:
    """Return the time of a cosignature, None for a plain signature."""
    at_s, payload, message = None, signature.payload, text.encode()
    # Short payloads need no check of their own: what is cut off here fails as a signature below.
    if key.key_type is KeyType.WITNESS:
        at_s = int.from_bytes(payload[:_TIMESTAMP_BYTES], "big")
        payload, message = payload[_TIMESTAMP_BYTES:], _cosigned(text, at_s)
    try:
        Ed25519PublicKey.from_public_bytes(key.public_key).verify(payload, message)
    except InvalidSignature as exc:
        raise NotProven(f"the note's signature by {key.name!r} is not this key's") from exc
    return at_s
