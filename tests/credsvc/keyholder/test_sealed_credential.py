"""A credential at rest: it opens as it was sealed, and not after any change of what it says of itself."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from credsvc.keyholder.sealed_credential import (
    CREDENTIAL_PURPOSE,
    Description,
    SealedCredential,
    open_credential,
    seal_credential,
)
from ostiary.errors import Forbidden
from ostiary.keyholder.seal import Sealer

SEALER = Sealer(b"\x01" * 32, purpose=CREDENTIAL_PURPOSE)
NONCE = b"\x02" * 12
DESCRIPTION = Description(
    application="shop.example",
    credential="grid",
    version=1,
    module="gogrid",
    owner="component",
    ceiling={"host": ("api.gogrid.com",)},
    shareable={"api_key": "foo"},
    field_types={"shared_secret": "digest_input"},
)
SECRETS = {"shared_secret": b"bar"}
BLOB = seal_credential(DESCRIPTION, SECRETS, SEALER, nonce=NONCE)


def changed(**members: Any) -> bytes:
    """The blob with another description beside the same sealed secrets."""
    credential = msgspec.msgpack.decode(BLOB, type=SealedCredential)
    description = msgspec.structs.replace(credential.description, **members)
    return msgspec.msgpack.encode(msgspec.structs.replace(credential, description=description))


@given(st.dictionaries(st.text(max_size=20), st.binary(max_size=200), max_size=5), st.integers(0, 2**53 - 1))
def test_what_was_sealed_opens_as_it_was(secrets: dict[str, bytes], version: int) -> None:
    description = msgspec.structs.replace(DESCRIPTION, version=version)
    blob = seal_credential(description, secrets, SEALER, nonce=NONCE)
    assert open_credential(blob, SEALER) == (description, secrets)


def test_the_secret_is_not_in_the_blob_and_the_description_is() -> None:
    long = b"a secret long enough to be found"
    blob = seal_credential(DESCRIPTION, {"shared_secret": long}, SEALER, nonce=NONCE)
    assert long not in blob
    assert b"api.gogrid.com" in blob


CHANGES: dict[str, dict[str, Any]] = {
    "application": {"application": "other.example"},
    "credential": {"credential": "other"},
    "version": {"version": 2},
    "module": {"module": "aws-sigv4"},
    "owner": {"owner": "stranger"},
    "wider-ceiling": {"ceiling": {"host": ("*",)}},
    "no-ceiling": {"ceiling": {}},
    "public-field": {"shareable": {"api_key": "mine"}},
    "field-type": {"field_types": {"shared_secret": "mac_key"}},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_changed_description_makes_it_worthless(change: dict[str, Any]) -> None:
    with pytest.raises(Forbidden) as refused:
        open_credential(changed(**change), SEALER)
    assert refused.value.rule == "credential-sealed"


def test_every_member_of_a_description_is_bound() -> None:
    assert {name for change in CHANGES.values() for name in change} == set(Description.__struct_fields__)


def test_an_unchanged_one_written_anew_still_opens() -> None:
    assert open_credential(changed(), SEALER) == (DESCRIPTION, SECRETS)


@pytest.mark.parametrize("at", [len(BLOB) - 1, len(BLOB) - 20], ids=["tag", "ciphertext"])
def test_a_flipped_bit_is_refused(at: int) -> None:
    flipped = bytearray(BLOB)
    flipped[at] ^= 1
    with pytest.raises(Forbidden):
        open_credential(bytes(flipped), SEALER)


@pytest.mark.parametrize(
    "blob", [b"", b"\xc1", BLOB[:-1], BLOB + b"\x00"], ids=["empty", "bad", "cut", "longer"]
)
def test_what_is_none_is_refused(blob: bytes) -> None:
    with pytest.raises(Forbidden):
        open_credential(blob, SEALER)


@pytest.mark.parametrize(
    "sealer",
    [Sealer(b"\x03" * 32, purpose=CREDENTIAL_PURPOSE), Sealer(b"\x01" * 32, purpose="keyholder keys")],
    ids=["another-key", "another-purpose"],
)
def test_it_opens_under_its_own_key_and_purpose_only(sealer: Sealer) -> None:
    with pytest.raises(Forbidden):
        open_credential(BLOB, sealer)
