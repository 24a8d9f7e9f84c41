"""A key wrapped under a passphrase: the recovery copy, and what the key-encryption key is with `prompt`.

    {"application":"...","ciphertext":HEX,"kdf":"scrypt","n":131072,"nonce":HEX,"p":1,"r":8,"salt":HEX,"service":"...","v":1}

Rules:
- scrypt (RFC 7914) with n=2^17, r=8, p=1: 128 MiB and some tenths of a second for each guess (OWASP's first
  choice).
- AES-256-GCM with a random nonce; the associated data is everything in the file but the ciphertext, so that a
  copy of another application or service doesn't open, nor one whose parameters were changed.
- A reader accepts only the parameters that this release writes: nobody can make it do more, or less, work.
- Pure but for scrypt's cost: the caller brings salt and nonce.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from ostiary.errors import BadInput, Unauthenticated

if TYPE_CHECKING:
    from collections.abc import Mapping

KEY_BYTES: Final = 32
RANDOM_BYTES: Final = 16 + 12  # salt and nonce
MIN_PASSPHRASE_CHARACTERS: Final = 12
_PARAMETERS: Final = {"kdf": "scrypt", "n": 1 << 17, "p": 1, "r": 8, "v": 1}
_MAX_FILE_BYTES: Final = 4096


def wrap(key: bytes, passphrase: str, *, application: str, service: str, random: bytes) -> bytes:
    """Return the file's content; `random` is 28 fresh random bytes. BadInput for a short passphrase."""
    if len(key) != KEY_BYTES or len(random) != RANDOM_BYTES:
        raise AssertionError("a key has 32 bytes, its wrapping takes 28 random ones")
    if len(passphrase) < MIN_PASSPHRASE_CHARACTERS:
        raise BadInput(
            f"the passphrase has {len(passphrase)} characters, wanted at least {MIN_PASSPHRASE_CHARACTERS}",
            field="passphrase",
        )
    salt, nonce = random[:16], random[16:]
    header = {
        "application": application,
        "nonce": nonce.hex(),
        "salt": salt.hex(),
        "service": service,
        **_PARAMETERS,
    }
    ciphertext = AESGCM(_derive(passphrase, salt)).encrypt(nonce, key, _associated_data(header))
    return json.dumps({**header, "ciphertext": ciphertext.hex()}, sort_keys=True).encode() + b"\n"


def unwrap(content: bytes, passphrase: str, *, application: str, service: str) -> bytes:
    """Return the key; BadInput where the file isn't ours, Unauthenticated where the passphrase is wrong."""
    header, ciphertext = _parse(content)
    for name, wanted in (("application", application), ("service", service)):
        if header[name] != wanted:
            raise BadInput(
                f"the wrapped key belongs to {name} {header[name]!r}, wanted {wanted!r}", field=name
            )
    salt, nonce = bytes.fromhex(header["salt"]), bytes.fromhex(header["nonce"])
    try:
        return AESGCM(_derive(passphrase, salt)).decrypt(nonce, ciphertext, _associated_data(header))
    except InvalidTag:
        raise Unauthenticated(
            "the wrapped key does not open: wrong passphrase, or the file was changed", field="passphrase"
        ) from None


def _derive(passphrase: str, salt: bytes) -> bytes:
    kdf = Scrypt(salt=salt, length=KEY_BYTES, n=1 << 17, r=8, p=1)
    return kdf.derive(passphrase.encode("utf-8", "surrogateescape"))


def _associated_data(header: Mapping[str, object]) -> bytes:
    return json.dumps(header, sort_keys=True, separators=(",", ":")).encode()


def _parse(content: bytes) -> tuple[dict[str, str], bytes]:
    """Split the file into header and ciphertext; every member has exactly the type and size that `wrap` gives
    it.
    """
    try:
        value = json.loads(content) if len(content) <= _MAX_FILE_BYTES else None
    except ValueError:
        value = None
    sizes = {"nonce": 12, "salt": 16, "ciphertext": KEY_BYTES + 16}
    if not isinstance(value, dict) or value.keys() != _PARAMETERS.keys() | sizes.keys() | {
        "application",
        "service",
    }:
        raise BadInput("the wrapped key is not a file of ours")
    if {name: value[name] for name in _PARAMETERS} != _PARAMETERS:
        raise BadInput("the wrapped key was made with other parameters than this release's")
    try:
        if any(len(bytes.fromhex(value[name])) != size for name, size in sizes.items()):
            raise BadInput("the wrapped key has a salt, nonce or ciphertext of another length")
    except (TypeError, ValueError):
        raise BadInput("the wrapped key has a salt, nonce or ciphertext that is not hex") from None
    ciphertext = bytes.fromhex(value.pop("ciphertext"))
    return value, ciphertext


def wrapped_for(content: bytes) -> str:
    """The application that a wrapped key belongs to; BadInput where the file isn't ours. Believed only once
    it opens.
    """
    header, _ = _parse(content)
    return header["application"]
