"""Reading what a keyholder answers."""

from __future__ import annotations

import msgspec
import pytest

from ostiary.keyholder.client import decode_answer
from ostiary.keyholder.protocol import (
    Done,
    FromKeyholder,
    Hello,
    Primed,
    Refusal,
    Result,
    TreeState,
    encode_message,
)

ANSWERS: list[FromKeyholder] = [
    TreeState(origin="shop.example/ca", fresh=False, size=3, must_pass=3),
    Primed(),
    Done(note=b"note", results=(Result(output=b"out"), Result(refused="rule", reason="why"))),
    Refusal(reason="why"),
]


@pytest.mark.parametrize("message", ANSWERS, ids=lambda message: type(message).__name__)
def test_an_answer_comes_back(message: FromKeyholder) -> None:
    assert decode_answer(encode_message(message)) == message


@pytest.mark.parametrize("body", [b"", b"\xc1", encode_message(Hello()), encode_message(Primed())[:-1]])
def test_what_is_no_answer_is_refused(body: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        decode_answer(body)
