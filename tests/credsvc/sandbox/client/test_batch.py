"""Which request carries which item, and whose answer is whose."""

from __future__ import annotations

from typing import Any

import pytest

from credsvc.sandbox import frames
from credsvc.sandbox.client.batch import Batch
from credsvc.sandbox.client.decode import HoleProposal
from credsvc.sandbox.client.faults import Fault, SandboxFault
from credsvc.sandbox.client.messages import Reply
from credsvc.sandbox.frames import Outcome

RAISED: Reply = (Outcome.RAISED, b"")
EXHAUSTED: Reply = (Outcome.EXHAUSTED, b"")
REFUSED: Reply = (Outcome.DONE, b"[]")


def done(n: int) -> Reply:
    return Outcome.DONE, b'{"formula":"f","holes":{"n":%d}}' % n


def what(batch: Batch) -> list[Any]:
    """The results: a number, or a fault."""
    return [
        result.holes["n"] if isinstance(result, HoleProposal) else result.fault for result in batch.results
    ]


def numbers(count: int) -> list[bytes]:
    return [b'{"n":%d}' % n for n in range(count)]


def text(length: int) -> bytes:
    return b'{"x":"' + b"a" * length + b'"}'


def test_all_that_fit_go_into_one_request() -> None:
    batch = Batch("sign", numbers(256))
    body, count = batch.next_request(pace_s=0.0)
    assert count == 256
    assert frames.unpack_calls(body)[1:] == ("sign", numbers(256))


def test_requests_are_filled_to_the_last_byte() -> None:
    """Of three items the first two fill a record exactly; a byte more leaves the second to the next."""
    room = frames.MAX_REQUEST_BYTES - frames.HEADER_BYTES - len(frames.pack_calls("f", [], gathered=1))
    half = room // 2 - 1 - len(text(0))
    for more, counts in ((0, [2, 1]), (1, [1, 2])):
        batch = Batch("f", [text(half), text(half + more + room % 2), text(0)])
        sent = []
        while batch.rest:
            body, count = batch.next_request(pace_s=0.0)
            assert len(body) + frames.HEADER_BYTES <= frames.MAX_REQUEST_BYTES
            sent.append(count)
            batch.take_all([done(0)] * count)
        assert sent == counts


def test_an_item_that_fits_no_request_is_its_own_fault() -> None:
    batch = Batch("f", [text(0), text(frames.MAX_REQUEST_BYTES), text(0)])
    assert batch.next_request(pace_s=0.0)[1] == 2
    batch.take_all([done(0), done(2)])
    assert what(batch) == [0, Fault.REQUEST_TOO_LARGE, 2]


@pytest.mark.parametrize(
    ("pace_s", "gathered"), [(0.0, 16), (0.00001, 16), (0.0005, 4), (0.002, 1), (0.01, 1), (10.0, 1)]
)
def test_answers_of_quick_calls_share_a_record(pace_s: float, gathered: int) -> None:
    body, _count = Batch("f", numbers(5)).next_request(pace_s=pace_s)
    assert frames.unpack_calls(body)[0] == gathered


def test_answers_belong_to_the_first_of_the_rest() -> None:
    batch = Batch("f", numbers(5))
    batch.take_all([done(10), RAISED])
    batch.take([done(12)])
    assert list(batch.rest) == [3, 4]
    batch.take_all([done(13), done(14)])
    assert what(batch) == [10, Fault.MODULE_RAISED, 12, 13, 14]
    assert batch.rest == {}


@pytest.mark.parametrize(("reply", "kind"), [(EXHAUSTED, Fault.EXHAUSTED), (REFUSED, Fault.ANSWER_REFUSED)])
def test_a_violation_is_one_items_and_ends_the_worker(reply: Reply, kind: Fault) -> None:
    batch = Batch("f", numbers(4))
    with pytest.raises(SandboxFault) as caught:
        batch.take_all([done(0), reply, done(2)])
    assert caught.value.fault is kind
    assert what(batch)[:3] == [0, kind, 2]
    assert list(batch.rest) == [3]


def test_one_of_the_rest_alone() -> None:
    batch = Batch("f", numbers(3))
    assert frames.unpack_calls(batch.request(1)) == (1, "f", [b'{"n":1}'])
    batch.settle(1, HoleProposal(formula="f", holes={"n": 1}))
    assert list(batch.rest) == [0, 2]


def test_what_nobody_ever_answers_was_late() -> None:
    assert what(Batch("f", numbers(2))) == [Fault.TIMEOUT, Fault.TIMEOUT]


def test_nothing() -> None:
    assert Batch("f", []).results == []
