"""What is said to a worker, and what its answers mean."""

from __future__ import annotations

from typing import Any

import pytest

from credsvc.sandbox import frames
from credsvc.sandbox.client.decode import HoleProposal
from credsvc.sandbox.client.faults import Fault, SandboxFault, SourceRefused
from credsvc.sandbox.client.messages import encode_arguments, encode_call, encode_source, read_call, read_load
from credsvc.sandbox.frames import Outcome
from credsvc.sandbox.refusal import Reason


@pytest.mark.parametrize(
    ("arguments", "item"),
    [
        ({"request": {"a": ["é", 1, None]}}, '{"request":{"a":["é",1,null]}}'.encode()),
        ({"n": 10**30, "text": "a\nb"}, b'{"n":1000000000000000000000000000000,"text":"a\\nb"}'),
        ({"text": "\ud800"}, b'{"text": "\\ud800"}'),
    ],
    ids=["plain", "a large number and a line end", "a lone surrogate"],
)
def test_a_call(arguments: dict[str, Any], item: bytes) -> None:
    assert encode_arguments(arguments) == item
    assert frames.unpack_calls(encode_call("sign", item)) == (1, "sign", [item])


def test_an_entry_that_no_module_can_have() -> None:
    with pytest.raises(SandboxFault) as caught:
        encode_call("sign\n{}", b"{}")
    assert caught.value.fault is Fault.MODULE_RAISED


def test_the_largest_call_fits_a_record() -> None:
    room = frames.MAX_REQUEST_BYTES - frames.HEADER_BYTES - len(encode_call("f", b""))
    assert len(encode_call("f", b"x" * room)) + frames.HEADER_BYTES == frames.MAX_REQUEST_BYTES
    with pytest.raises(SandboxFault) as caught:
        encode_call("f", b"x" * (room + 1))
    assert caught.value.fault is Fault.REQUEST_TOO_LARGE


@pytest.mark.parametrize(
    ("source", "reason"), [("'\ud800'", Reason.NOT_TEXT), ("#" * 65_537, Reason.TOO_LARGE)]
)
def test_sources_that_are_not_sent(source: str, reason: Reason) -> None:
    with pytest.raises(SourceRefused) as caught:
        encode_source(source)
    assert caught.value.reason is reason
    assert encode_source("#" * 65_536)


def test_a_proposal() -> None:
    replies = [(Outcome.DONE, b'{"formula":"f","holes":{}}')]
    assert read_call(replies) == HoleProposal(formula="f", holes={})


@pytest.mark.parametrize(
    ("outcome", "kind"),
    [
        (Outcome.RAISED, Fault.MODULE_RAISED),
        (Outcome.EXHAUSTED, Fault.EXHAUSTED),
        (Outcome.UNSENDABLE, Fault.ANSWER_REFUSED),
        (Outcome.LOADED, Fault.ANSWER_REFUSED),
        (Outcome.REFUSED, Fault.ANSWER_REFUSED),
        (Outcome.DONE, Fault.ANSWER_REFUSED),
    ],
)
def test_other_answers_to_a_call(outcome: Outcome, kind: Fault) -> None:
    with pytest.raises(SandboxFault) as caught:
        read_call([(outcome, b"not-allowed 1")])
    assert caught.value.fault is kind


def test_loaded() -> None:
    read_load([(Outcome.LOADED, b"")])


@pytest.mark.parametrize(
    ("body", "line"),
    [
        (b"not-allowed 17", 17),
        (b"not-allowed 1234567", 0),
        (b"not-allowed -1", 0),
        (b"not-allowed \xb2", 0),
        (b"not-allowed", 0),
    ],
)
def test_a_refusal_of_the_source(body: bytes, line: int) -> None:
    with pytest.raises(SourceRefused) as caught:
        read_load([(Outcome.REFUSED, body)])
    assert (caught.value.reason, caught.value.line) == (Reason.NOT_ALLOWED, line)


@pytest.mark.parametrize(
    ("outcome", "body"),
    [(Outcome.REFUSED, b"because I say so"), (Outcome.DONE, b"{}"), (Outcome.EXHAUSTED, b"")],
)
def test_other_answers_to_a_load(outcome: Outcome, body: bytes) -> None:
    with pytest.raises(SandboxFault) as caught:
        read_load([(outcome, body)])
    assert caught.value.fault is Fault.NOT_LOADED
