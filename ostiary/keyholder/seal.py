"""Sealing: a secret encrypted at rest under the key-encryption key, bound to what it belongs to.

Rules:
- AES-256-GCM (NIST SP 800-38D) with a random 96-bit nonce; the sealing key of each purpose is derived from
  the key-encryption key by HKDF-SHA256 (RFC 5869) with the purpose as `info`, so that a blob of one purpose
  cannot be opened as another.
- The associated data says what the secret belongs to; a blob that was moved, or whose description was
  changed, does not open.

Layout:
    magic       4   b"ost1"
    nonce      12
    ciphertext  n + 16 (tag)
"""

from __future__ import annotations

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ostiary.errors import Misconfigured

# The version is in the magic, so that a later layout can be told from this one before anything is decrypted.
_MAGIC = b"ost1"
_NONCE_BYTES = 12
KEK_BYTES = 32


class Sealer:
    """Seals and opens blobs of one purpose."""

    def __init__(self, key_encryption_key: bytes, *, purpose: str) -> None:
        if len(key_encryption_key) != KEK_BYTES:
            raise Misconfigured(
                f"the key-encryption key has {len(key_encryption_key)} bytes, wanted {KEK_BYTES}"
            )
        # No salt: the input is a uniform key already, and HKDF is defined without one (RFC 5869 section 3.1).
        info = f"ostiary seal v1 {purpose}".encode()
        self._aead = AESGCM(
            HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(key_encryption_key)
        )
        self._purpose = purpose

    def seal(self, plaintext: bytes, *, associated_data: bytes, nonce: bytes) -> bytes:
        """Encrypt; `nonce` is 12 random bytes that are never used again.

        Random nonces allow 2^32 seals under one key (NIST SP 800-38D section 8.3), which puts of credentials
        will not reach.
        """
        if len(nonce) != _NONCE_BYTES:
            raise AssertionError("a sealing nonce has 12 bytes")
        return _MAGIC + nonce + self._aead.encrypt(nonce, plaintext, associated_data)

    def open(self, blob: bytes, *, associated_data: bytes) -> bytes:
        """Decrypt; raises Misconfigured where blob, purpose, key and associated data do not belong
        together.
        """
        head = len(_MAGIC)
        if blob[:head] != _MAGIC:
            raise Misconfigured(
                f"a sealed {self._purpose} does not begin with the magic of this version, wanted 'ost1'"
            )
        nonce, ciphertext = blob[head : head + _NONCE_BYTES], blob[head + _NONCE_BYTES :]
        try:
            return self._aead.decrypt(nonce, ciphertext, associated_data)
        except InvalidTag as exc:
            raise Misconfigured(
                f"a sealed {self._purpose} does not open: it was changed or moved, "
                "or sealed under another key-encryption key"
            ) from exc
