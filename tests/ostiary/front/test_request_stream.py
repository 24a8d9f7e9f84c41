"""Requests are passed on one at a time and whole, however they arrive."""

from __future__ import annotations

from random import Random

import pytest

from ostiary.front.head import RefusedRequest
from ostiary.front.request_stream import RequestStream
from tests.support.malformed import CASES, Case

LIMITS = {"max_head_bytes": 2000, "max_line_bytes": 500}
REQUESTS = (
    b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST /b HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhello\r\n\r\n",
    b"POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n\r\n\r\n\r\n0\r\nX: a\r\n\r\n",
    b"GET /d HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
)


def test_requests_in_any_pieces_come_out_one_by_one() -> None:
    """What is sent ahead waits for the answer to what was sent before."""
    random = Random(11)
    for longest in (1, 3, 20, 1000):
        stream, data, found = RequestStream(**LIMITS), b"".join(REQUESTS), [b""]
        while data:
            length = random.randrange(1, longest + 1)
            found[-1] += stream.take(data[:length])
            data = data[length:]
            while stream.is_whole and (stream.ahead_bytes or random.randrange(2)):
                found.append(stream.end_exchange())
        assert [request for request in found if request] == list(REQUESTS)
        assert stream.ahead_bytes == 0


def test_a_body_is_passed_on_as_it_comes() -> None:
    stream = RequestStream(**LIMITS)
    assert stream.take(REQUESTS[1][:30]) == b""
    assert (stream.is_in_head, stream.is_whole, stream.held_bytes) == (True, False, 30)
    end = REQUESTS[1].index(b"hello")
    assert stream.take(REQUESTS[1][30 : end + 2]) == REQUESTS[1][: end + 2]
    assert (stream.is_in_head, stream.is_whole, stream.ahead_bytes) == (False, False, 0)
    assert stream.held_bytes == end + 2
    assert stream.take(REQUESTS[1][end + 2 :]) == b"llo\r\n\r\n"
    assert stream.is_whole
    with pytest.raises(AssertionError):
        RequestStream(**LIMITS).end_exchange()


def test_what_is_sent_ahead_is_not_passed_on_before_the_answer() -> None:
    stream = RequestStream(**LIMITS)
    assert stream.take(REQUESTS[0] + REQUESTS[1]) == REQUESTS[0]
    assert stream.ahead_bytes == len(REQUESTS[1])
    assert stream.take(b"rubbish") == b""
    assert stream.end_exchange() == REQUESTS[1]
    assert stream.is_whole
    assert stream.end_exchange() == b""


def test_a_head_has_a_limit_whether_it_ends_or_not() -> None:
    fields = b"X: " + b"a" * 480 + b"\r\n"
    for data in (b"GET / HTTP/1.1\r\n" + fields * 5, b"GET / HTTP/1.1\r\nHost: x\r\n" + fields * 5 + b"\r\n"):
        with pytest.raises(RefusedRequest) as caught:
            RequestStream(**LIMITS).take(data)
        assert caught.value.status == 431
    for data in (b"GET /" + b"a" * 600, b"GET /" + b"a" * 600 + b" HTTP/1.1\r\nHost: x\r\n\r\n"):
        with pytest.raises(RefusedRequest) as caught:
            RequestStream(**LIMITS).take(data)
        assert caught.value.status == 414


@pytest.mark.parametrize("ended", [b"GET / HTTP/1.1\n", b"GET / HTTP/1.1\r\nHost: x\n", b"GET /\x00"])
def test_what_can_not_become_right_is_refused_before_its_end(ended: bytes) -> None:
    for longest in (1, len(ended)):
        stream = RequestStream(**LIMITS)
        with pytest.raises(RefusedRequest):
            for begin in range(0, len(ended), longest):
                stream.take(ended[begin : begin + longest])


MALFORMED = [case for case in CASES if not case.ends and not case.expected & {413, 414, 431}]


@pytest.mark.parametrize("case", MALFORMED, ids=lambda case: case.name)
def test_the_corpus_is_refused_here_and_not_first_by_gunicorn(case: Case) -> None:
    post = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    for piece_bytes in (1, 10_000):
        stream = RequestStream(max_head_bytes=32_000, max_line_bytes=4000)
        data = case.sent.replace(b"@POST@", post)
        with pytest.raises(RefusedRequest) as caught:
            for begin in range(0, len(data), piece_bytes):
                stream.take(data[begin : begin + piece_bytes])
                assert not stream.is_whole
        assert caught.value.status in case.expected
