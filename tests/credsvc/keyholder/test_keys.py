"""The keyholder's keys: sealed together, never shown, and of the right kind."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from credsvc.keyholder.keys import CredentialKeys, load_intake_key
from ostiary.errors import Misconfigured
from ostiary.keyholder.key_sealing import seal_keys
from ostiary.keyholder.keys import KEYS_PURPOSE, open_keys
from ostiary.keyholder.seal import Sealer
from tests.credsvc.keyholder.test_evaluator import pkcs8

LEDGER, INTAKE = Ed25519PrivateKey.generate(), X25519PrivateKey.generate()
KEYS = CredentialKeys(
    application="shop.example",
    approver_key=b"\x07" * 32,
    intake_key=pkcs8(INTAKE),
    ledger_key=pkcs8(LEDGER),
)
SEALER = Sealer(b"\x01" * 32, purpose=KEYS_PURPOSE)


def test_what_was_sealed_opens_as_it_was() -> None:
    assert open_keys(seal_keys(KEYS, SEALER, nonce=b"\x02" * 12), CredentialKeys, SEALER) == KEYS


@pytest.mark.parametrize("show", [repr, str, "{}".format])
def test_no_key_is_shown(show: object) -> None:
    shown = show(KEYS)  # type: ignore[operator]
    assert shown == "CredentialKeys('shop.example')"


def test_the_intake_key_is_loaded() -> None:
    assert load_intake_key(KEYS.intake_key).public_key() == INTAKE.public_key()


def test_a_key_of_another_kind_is_refused() -> None:
    with pytest.raises(Misconfigured, match="X25519"):
        load_intake_key(KEYS.ledger_key)
