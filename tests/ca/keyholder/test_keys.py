"""The issuing key is of a kind that signs deterministically, and no key shows in a repr."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

from ca.keyholder.keys import load_issuing_key
from ostiary.errors import Misconfigured
from tests.support.ca_authority import AuthorityForTests


def pkcs8(key: PrivateKeyTypes) -> bytes:
    return key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP256R1()),
        ec.generate_private_key(ec.SECP384R1()),
        ed25519.Ed25519PrivateKey.generate(),
    ],
    ids=["P-256", "P-384", "Ed25519"],
)
def test_keys_that_sign_deterministically_are_loaded(
    key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey,
) -> None:
    assert load_issuing_key(pkcs8(key)).public_key() == key.public_key()


def test_an_rsa_key_is_refused() -> None:
    with pytest.raises(Misconfigured, match="neither ECDSA nor Ed25519"):
        load_issuing_key(pkcs8(rsa.generate_private_key(65537, 2048)))


def test_a_repr_shows_no_key() -> None:
    keys = AuthorityForTests().keys()
    for shown in (repr(keys), str(keys), f"{keys}"):
        assert shown == "CAKeys('shop.example')"
        assert keys.issuing_key.hex() not in shown
