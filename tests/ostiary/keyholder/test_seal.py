"""Sealing: what opens, and each thing that keeps a blob from opening."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from ostiary.errors import Misconfigured
from ostiary.keyholder.seal import Sealer

KEK, NONCE, DATA = bytes(range(32)), bytes(range(12)), b"ca of shop.example"
SEALER = Sealer(KEK, purpose="keys")
BLOB = SEALER.seal(b"marked secret", associated_data=DATA, nonce=NONCE)


@given(st.binary(max_size=300), st.binary(max_size=40), st.binary(min_size=12, max_size=12))
def test_what_was_sealed_opens(plaintext: bytes, data: bytes, nonce: bytes) -> None:
    blob = SEALER.seal(plaintext, associated_data=data, nonce=nonce)
    assert SEALER.open(blob, associated_data=data) == plaintext


def test_a_blob_is_what_the_docstring_says() -> None:
    """Opened here by the primitives alone."""
    assert BLOB[:16] == b"ost1" + NONCE
    key = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"ostiary seal v1 keys").derive(KEK)
    assert AESGCM(key).decrypt(NONCE, BLOB[16:], DATA) == b"marked secret"


def test_no_bit_of_a_blob_can_change() -> None:
    for bit in range(len(BLOB) * 8):
        changed = bytearray(BLOB)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(Misconfigured):
            SEALER.open(bytes(changed), associated_data=DATA)


@pytest.mark.parametrize(
    ("sealer", "data"),
    [
        pytest.param(Sealer(KEK, purpose="credential"), DATA, id="another purpose"),
        pytest.param(Sealer(bytes(32), purpose="keys"), DATA, id="another key-encryption key"),
        pytest.param(SEALER, DATA + b"x", id="another owner"),
    ],
)
def test_a_blob_that_was_moved_does_not_open(sealer: Sealer, data: bytes) -> None:
    with pytest.raises(Misconfigured, match="does not open") as caught:
        sealer.open(BLOB, associated_data=data)
    assert "marked" not in str(caught.value)


@pytest.mark.parametrize("blob", [b"", b"ost", b"ost2" + BLOB[4:], BLOB[:16], BLOB[:-1]])
def test_what_is_no_blob_is_told(blob: bytes) -> None:
    with pytest.raises(Misconfigured):
        SEALER.open(blob, associated_data=DATA)


@pytest.mark.parametrize("size", [0, 16, 31, 33])
def test_a_key_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(Misconfigured, match=f"has {size} bytes, wanted 32"):
        Sealer(bytes(size), purpose="keys")


def test_a_nonce_of_another_size_is_a_bug_of_ours() -> None:
    with pytest.raises(AssertionError):
        SEALER.seal(b"", associated_data=b"", nonce=bytes(11))
