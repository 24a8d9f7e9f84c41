"""Work items: a closed set, encoded once, refused when anything is unknown, wrong or too large."""

from __future__ import annotations

import hashlib

import msgspec
import pytest

from ca import items as ca_items
from credsvc import items as credential_items
from ostiary.errors import BadInput
from ostiary.work.item import MAX_ITEM_BYTES, Item, ItemDecoder, Operator, item_digest, kind_of
from ostiary.work.item_encoding import encode_item
from ostiary.work.reports import Alarm

CA = (*ca_items.FRONT, *ca_items.RESPONDER, *ca_items.ADMIN, *ca_items.INTERNAL)
CREDENTIALS = (*credential_items.FRONT, *credential_items.ADMIN, *credential_items.INTERNAL)
VOID = ca_items.VoidToken(operator=Operator(uid=0, name="root"), token_id="t1")
DECODER = ItemDecoder(CA)


def test_an_item_survives_its_encoding() -> None:
    assert DECODER.decode(encode_item(VOID)) == VOID
    assert kind_of(VOID) == "void-token"


def test_the_digest_is_of_the_bytes_as_they_came() -> None:
    raw = encode_item(VOID)
    assert item_digest(raw) == hashlib.sha256(raw).digest()


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xc1",
        msgspec.msgpack.encode({"kind": "void-token", "operator": {"uid": 0, "name": "root"}}),
        msgspec.msgpack.encode({"kind": "void-token", "operator": {"uid": 0, "name": "root"}, "token_id": 7}),
        msgspec.msgpack.encode({"kind": "no-such", "token_id": "t1"}),
        msgspec.msgpack.encode(
            {"kind": "void-token", "operator": {"uid": 0, "name": "root"}, "token_id": "t1", "more": 1}
        ),
        bytes(encode_item(VOID)) + b"\x00",
    ],
    ids=["empty", "no-msgpack", "missing", "wrong-type", "unknown-kind", "unknown-field", "trailing"],
)
def test_what_is_not_exactly_an_item_is_refused(raw: bytes) -> None:
    with pytest.raises(BadInput):
        DECODER.decode(raw)


def test_an_item_of_another_service_is_refused() -> None:
    delete = credential_items.DeleteCredential(operator=Operator(uid=0, name="root"), credential="c")
    with pytest.raises(BadInput):
        DECODER.decode(encode_item(delete))


def test_an_item_that_fills_a_frame_is_refused_on_both_ends() -> None:
    large = Alarm(what="x", detail="y" * MAX_ITEM_BYTES)
    with pytest.raises(BadInput, match="bytes"):
        encode_item(large)
    with pytest.raises(BadInput, match="bytes"):
        DECODER.decode(msgspec.msgpack.encode(large))


@pytest.mark.parametrize("kinds", [CA, CREDENTIALS])
def test_tags_are_unique(kinds: tuple[type[Item], ...]) -> None:
    tags = [kind.__struct_config__.tag for kind in kinds]
    assert len(set(tags)) == len(tags)


@pytest.mark.parametrize("lists", [ca_items, credential_items])
def test_the_fronts_list_and_the_operators_list_share_nothing(lists: object) -> None:
    assert not set(lists.FRONT) & set(lists.ADMIN)  # type: ignore[attr-defined] # two modules of one shape
