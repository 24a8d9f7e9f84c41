"""Opening a key that is wrapped under a passphrase: a recovery copy, or the key-encryption key with `prompt`.

    {"application":"...","ciphertext":HEX,"kdf":"scrypt","n":131072,"nonce":HEX,"p":1,"r":8,"salt":HEX,
     "service":"...","v":1}

Rules:
- scrypt (RFC 7914) with n=2^17, r=8, p=1: 128 MiB and some tenths of a second for each guess (OWASP's first
  choice).
- AES-256-GCM; the associated data is everything in the file but the ciphertext, so that a copy of another
  application or service doesn't open, nor one whose parameters were changed.
- A reader accepts only the parameters that this release writes: nobody can make it do more, or less, work.

Wrapping is left to `ostiary.edge.passphrase_wrapping`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from ostiary.errors import BadInput, Unauthenticated

KEY_BYTES: Final = 32
PARAMETERS: Final = {"kdf": "scrypt", "n": 1 << 17, "p": 1, "r": 8, "v": 1}
_MAX_FILE_BYTES: Final = 4096


def unwrap(content: bytes, passphrase: str, *, application: str, service: str) -> bytes:
    """Return the key; BadInput where the file isn't ours, Unauthenticated where the passphrase is wrong."""
    header, ciphertext = parse_wrapped(content)
    for name, wanted in (("application", application), ("service", service)):
        if header[name] != wanted:
            raise BadInput(
                f"the wrapped key belongs to {name} {header[name]!r}, wanted {wanted!r}", field=name
            )
    salt, nonce = bytes.fromhex(header["salt"]), bytes.fromhex(header["nonce"])
    try:
        return AESGCM(derive(passphrase, salt)).decrypt(nonce, ciphertext, associated_data(header))
    except InvalidTag:
        raise Unauthenticated(
            "the wrapped key does not open: wrong passphrase, or the file was changed", field="passphrase"
        ) from None


def derive(passphrase: str, salt: bytes) -> bytes:
    """The wrapping key of a passphrase; `salt` is 16 bytes."""
    # surrogateescape: a passphrase file may hold bytes that are no UTF-8; they go back to the same bytes
    # here.
    kdf = Scrypt(salt=salt, length=KEY_BYTES, n=1 << 17, r=8, p=1)
    return kdf.derive(passphrase.encode("utf-8", "surrogateescape"))


def associated_data(header: Mapping[str, object]) -> bytes:
    """The bytes that are authenticated beside the ciphertext."""
    return json.dumps(header, sort_keys=True, separators=(",", ":")).encode()


def parse_wrapped(content: bytes) -> tuple[dict[str, str], bytes]:
    """Split the file into header and ciphertext; every member has exactly the type and size that `wrap` gives
    it.
    """
    try:
        value = json.loads(content) if len(content) <= _MAX_FILE_BYTES else None
    except ValueError:
        value = None
    sizes = {"nonce": 12, "salt": 16, "ciphertext": KEY_BYTES + 16}
    if not isinstance(value, dict) or value.keys() != PARAMETERS.keys() | sizes.keys() | {
        "application",
        "service",
    }:
        raise BadInput("the file is not a wrapped key of ostiary")
    if {name: value[name] for name in PARAMETERS} != PARAMETERS:
        raise BadInput("the wrapped key was made with parameters that this release does not use")
    # Hex of one length each, so that scrypt and AES-GCM never see what this release does not write.
    try:
        if any(len(bytes.fromhex(value[name])) != size for name, size in sizes.items()):
            raise BadInput("the wrapped key has a salt, nonce or ciphertext of another length")
    except (TypeError, ValueError):
        raise BadInput("the wrapped key has a salt, nonce or ciphertext that is not hex") from None
    ciphertext = bytes.fromhex(value.pop("ciphertext"))
    return value, ciphertext
