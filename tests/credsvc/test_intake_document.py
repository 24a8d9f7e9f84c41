"""The published intake key: only a document that the pinned ledger key signed for this application counts."""

from __future__ import annotations

import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from credsvc.intake_document import publish_intake, read_intake
from ostiary.errors import BadInput, Forbidden

LEDGER = Ed25519PrivateKey.from_private_bytes(b"\x01" * 32)
INTAKE = X25519PrivateKey.from_private_bytes(b"\x02" * 32)
DOCUMENT = publish_intake("shop.example", INTAKE, LEDGER)


def test_the_key_that_was_published_is_read() -> None:
    key = read_intake(DOCUMENT, application="shop.example", ledger_key=LEDGER.public_key())
    assert key == INTAKE.public_key().public_bytes_raw()


def test_another_ledger_key_is_refused() -> None:
    other = Ed25519PrivateKey.from_private_bytes(b"\x03" * 32)
    with pytest.raises(Forbidden) as refused:
        read_intake(DOCUMENT, application="shop.example", ledger_key=other.public_key())
    assert refused.value.rule == "intake-signature"


def test_the_document_of_another_application_is_refused() -> None:
    """Signed by the ledger key that is pinned here: the application expected counts, not the one named."""
    foreign = publish_intake("other.example", INTAKE, LEDGER)
    with pytest.raises(Forbidden):
        read_intake(foreign, application="shop.example", ledger_key=LEDGER.public_key())


def test_a_key_that_was_exchanged_is_refused() -> None:
    mine = json.loads(
        publish_intake("shop.example", X25519PrivateKey.from_private_bytes(b"\x04" * 32), LEDGER)
    )
    forged = json.dumps({**json.loads(DOCUMENT), "intake_key": mine["intake_key"]}).encode()
    with pytest.raises(Forbidden):
        read_intake(forged, application="shop.example", ledger_key=LEDGER.public_key())


@pytest.mark.parametrize("changed", [{"more": 1}, {"signature": "?"}, {"intake_key": None}])
def test_what_is_no_intake_document_is_refused(changed: dict[str, object]) -> None:
    document = json.dumps({**json.loads(DOCUMENT), **changed}).encode()
    with pytest.raises(BadInput, match="not an intake document"):
        read_intake(document, application="shop.example", ledger_key=LEDGER.public_key())
