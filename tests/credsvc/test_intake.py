"""The intake: an envelope opens at the place that it was made for and at no other."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from credsvc.intake import EnvelopePlace, open_envelope
from credsvc.intake_document import MAX_SECRET_BYTES, encrypt_to_intake
from ostiary.errors import BadInput
from ostiary.secret import Secret

INTAKE = X25519PrivateKey.from_private_bytes(b"\x01" * 32)
PUBLIC = INTAKE.public_key().public_bytes_raw()
PLACE = EnvelopePlace(
    application="shop.example", credential="billing", module="gogrid", field="shared_secret"
)


@given(st.binary(max_size=200))
def test_what_was_sealed_opens_at_its_place(secret: bytes) -> None:
    envelope = encrypt_to_intake(Secret(secret), PLACE, PUBLIC)
    # RFC 9180: 32 octets of encapsulated key before the ciphertext, 16 of tag in it.
    assert len(envelope) == 32 + len(secret) + 16
    assert open_envelope(envelope, PLACE, INTAKE).reveal() == secret


def test_one_secret_never_gives_one_envelope_twice() -> None:
    assert encrypt_to_intake(Secret(b"s"), PLACE, PUBLIC) != encrypt_to_intake(Secret(b"s"), PLACE, PUBLIC)


@pytest.mark.parametrize("moved", ["application", "credential", "module", "field"])
def test_an_envelope_that_is_moved_does_not_open(moved: str) -> None:
    envelope = encrypt_to_intake(Secret(b"marked-secret"), PLACE, PUBLIC)
    elsewhere = msgspec.structs.replace(PLACE, **{moved: "other"})
    with pytest.raises(BadInput) as refused:
        open_envelope(envelope, elsewhere, INTAKE)
    assert refused.value.field == elsewhere.field
    assert "marked" not in refused.value.message


def test_another_intake_key_does_not_open_it() -> None:
    other = X25519PrivateKey.from_private_bytes(b"\x02" * 32)
    with pytest.raises(BadInput):
        open_envelope(encrypt_to_intake(Secret(b"s"), PLACE, PUBLIC), PLACE, other)


@pytest.mark.parametrize("envelope", [b"", b"\x01" * 31, bytes(60), b"\x05" * 60])
def test_what_is_no_envelope_is_refused(envelope: bytes) -> None:
    with pytest.raises(BadInput):
        open_envelope(envelope, PLACE, INTAKE)


def test_a_secret_has_a_limit() -> None:
    encrypt_to_intake(Secret(bytes(MAX_SECRET_BYTES)), PLACE, PUBLIC)
    with pytest.raises(BadInput) as refused:
        encrypt_to_intake(Secret(bytes(MAX_SECRET_BYTES + 1)), PLACE, PUBLIC)
    assert refused.value.field == PLACE.field


def test_no_two_places_have_one_text() -> None:
    """`ab` `c` and `a` `bc` in neighbouring members: canonical JSON keeps them apart."""
    members: list[dict[str, Any]] = [
        {"credential": "ab", "module": "c"},
        {"credential": "a", "module": "bc"},
        {"module": "ab", "field": "c"},
        {"module": "a", "field": "bc"},
    ]
    places = [msgspec.structs.replace(PLACE, **changed) for changed in members]
    assert all(one.info() != two.info() for one, two in combinations(places, 2))
