"""Keys wrapped under a passphrase: opened by it alone, refused when anything was changed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from ostiary.edge.passphrase import unwrap
from ostiary.edge.passphrase_wrapping import wrap
from ostiary.errors import BadInput, Unauthenticated

KEY = bytes(range(32))
PASSPHRASE = "correct horse battery"
WRAPPED = wrap(KEY, PASSPHRASE, application="shop.example", service="ca", random=bytes(range(28)))


def test_wrapped_key_opens() -> None:
    assert unwrap(WRAPPED, PASSPHRASE, application="shop.example", service="ca") == KEY


def test_file_is_what_its_docstring_says() -> None:
    """Opened here by the primitives alone, from the members of the file."""
    value = json.loads(WRAPPED)
    ciphertext = bytes.fromhex(value.pop("ciphertext"))
    key = Scrypt(salt=bytes(range(16)), length=32, n=131072, r=8, p=1).derive(PASSPHRASE.encode())
    data = json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
    assert AESGCM(key).decrypt(bytes(range(16, 28)), ciphertext, data) == KEY


@pytest.mark.parametrize("member", ["ciphertext", "nonce", "salt"])
def test_changed_member_does_not_open(member: str) -> None:
    value = json.loads(WRAPPED)
    value[member] = ("1" if value[member][0] == "0" else "0") + value[member][1:]
    with pytest.raises(Unauthenticated, match="wrong passphrase, or the file was changed"):
        unwrap(json.dumps(value).encode(), PASSPHRASE, application="shop.example", service="ca")


def test_renamed_copy_does_not_open() -> None:
    """The name is authenticated, not only compared."""
    value = {**json.loads(WRAPPED), "service": "credsvc"}
    with pytest.raises(Unauthenticated):
        unwrap(json.dumps(value).encode(), PASSPHRASE, application="shop.example", service="credsvc")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n": 2}, "parameters that this release does not use"),
        ({"n": 1 << 30}, "parameters that this release does not use"),
        ({"kdf": "pbkdf2"}, "parameters that this release does not use"),
        ({"extra": 1}, "not a wrapped key"),
        ({"salt": "00"}, "another length"),
        ({"salt": "zz" * 16}, "not hex"),
        ({"salt": 7}, "not hex"),
        ({"ciphertext": ""}, "another length"),
    ],
)
def test_foreign_file_is_refused_before_any_work(change: dict[str, Any], message: str) -> None:
    content = json.dumps({**json.loads(WRAPPED), **change}).encode()
    with pytest.raises(BadInput, match=message):
        unwrap(content, PASSPHRASE, application="shop.example", service="ca")


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff", b" " * 5000 + WRAPPED])
def test_no_file_of_ours(content: bytes) -> None:
    with pytest.raises(BadInput, match="not a wrapped key"):
        unwrap(content, PASSPHRASE, application="shop.example", service="ca")
