"""What a recorder and a keyholder say to each other: every message comes back, and nothing else is one."""

from __future__ import annotations

import msgspec
import pytest

from ostiary.keyholder.protocol import (
    Batch,
    CatchUp,
    Document,
    Done,
    FromKeyholder,
    Hello,
    Prime,
    Primed,
    Refusal,
    Result,
    Resume,
    ToKeyholder,
    TreeState,
    Work,
    decode_request,
    encode_message,
)
from ostiary.work.item import RawItem

ITEM = RawItem(b"\x80")
REQUESTS: list[ToKeyholder] = [
    Hello(),
    Resume(note=b"note", size=3, peaks=bytes(64)),
    CatchUp(first=3, leaf_hashes=bytes(32)),
    Prime(documents=(Document(approval=ITEM, manifest=b"m"),)),
    Batch(first=4, leaf_hashes=bytes(32), work=(Work(offset=0, at_ms=5, item=ITEM, attachment=b"a"),)),
]
ANSWERS: list[FromKeyholder] = [
    TreeState(origin="shop.example/ca", fresh=True, size=0, must_pass=7),
    Primed(),
    Done(note=b"note", results=(Result(output=b"out"), Result(refused="rule", reason="why"))),
    Refusal(reason="witness-fork: why"),
]


@pytest.mark.parametrize("message", REQUESTS, ids=lambda message: type(message).__name__)
def test_a_request_comes_back(message: ToKeyholder) -> None:
    assert decode_request(encode_message(message)) == message


@pytest.mark.parametrize("message", ANSWERS, ids=lambda message: type(message).__name__)
def test_an_answer_is_no_request(message: FromKeyholder) -> None:
    with pytest.raises(msgspec.ValidationError):
        decode_request(encode_message(message))


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\xc1", id="no msgpack"),
        pytest.param(msgspec.msgpack.encode({"say": "Shutdown"}), id="unknown"),
        pytest.param(msgspec.msgpack.encode({"say": "Hello", "more": 1}), id="unknown member"),
        pytest.param(msgspec.msgpack.encode({"say": "CatchUp", "first": 1}), id="missing member"),
        pytest.param(
            msgspec.msgpack.encode({"say": "CatchUp", "first": "1", "leaf_hashes": b""}), id="wrong type"
        ),
        pytest.param(encode_message(Hello()) + b"\x00", id="trailing byte"),
    ],
)
def test_what_is_no_message_of_this_protocol_is_refused(body: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        decode_request(body)
