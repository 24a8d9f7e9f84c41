"""Wrapping a key under a passphrase; the file and its parameters are those of `ostiary.edge.passphrase`.

Pure but for scrypt's cost: the caller brings salt and nonce, fresh and random.
"""

from __future__ import annotations

import json
from typing import Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ostiary.edge.passphrase import KEY_BYTES, PARAMETERS, associated_data, derive, parse_wrapped
from ostiary.errors import BadInput

RANDOM_BYTES: Final = 16 + 12  # salt and nonce
# The key is as strong as this passphrase where the file is stolen. NIST SP 800-63B-4 asks for 15 characters
# where a password is the only factor, and 8 beside another; here reading a 0600 file is the other.
MIN_PASSPHRASE_CHARACTERS: Final = 12


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
        **PARAMETERS,
    }
    ciphertext = AESGCM(derive(passphrase, salt)).encrypt(nonce, key, associated_data(header))
    return json.dumps({**header, "ciphertext": ciphertext.hex()}, sort_keys=True).encode() + b"\n"


def wrapped_for(content: bytes) -> str:
    """The application that a wrapped key says it belongs to; BadInput where the file isn't ours. To be
    believed only once the key opens.
    """
    header, _ = parse_wrapped(content)
    return header["application"]
