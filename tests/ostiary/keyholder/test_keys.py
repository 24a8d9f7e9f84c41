"""A keyholder's keys as one sealed file: whose they are, and of which kind the ledger's is."""

from __future__ import annotations

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from ostiary.errors import Misconfigured
from ostiary.keyholder.key_sealing import seal_keys
from ostiary.keyholder.keys import KEYS_PURPOSE, load_ledger_key, open_keys
from ostiary.keyholder.seal import Sealer

SEALER = Sealer(bytes(range(32)), purpose=KEYS_PURPOSE)
LEDGER = Ed25519PrivateKey.from_private_bytes(b"\x05" * 32)


class NotesKeys(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys of a service that does nothing but keep a ledger."""

    application: str
    ledger_key: bytes


class OtherKeys(NotesKeys, frozen=True, kw_only=True):
    """The same members, of another service."""


def pkcs8(key: PrivateKeyTypes) -> bytes:
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


KEYS = NotesKeys(application="shop.example", ledger_key=pkcs8(LEDGER))
BLOB = seal_keys(KEYS, SEALER, nonce=bytes(12))


def test_sealed_keys_open_as_they_were() -> None:
    assert open_keys(BLOB, NotesKeys, SEALER) == KEYS


def test_the_file_of_one_service_does_not_open_as_anothers() -> None:
    with pytest.raises(Misconfigured, match="does not open"):
        open_keys(BLOB, OtherKeys, SEALER)


def test_the_ledger_key_is_ed25519_or_refused() -> None:
    assert load_ledger_key(KEYS.ledger_key).private_bytes_raw() == LEDGER.private_bytes_raw()
    with pytest.raises(Misconfigured, match="not Ed25519"):
        load_ledger_key(pkcs8(ec.generate_private_key(ec.SECP256R1())))
