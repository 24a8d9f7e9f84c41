"""Where a head ends and whether a body is whole, however the bytes are cut."""

from __future__ import annotations

from random import Random

import pytest

from ostiary.front.inflow import Inflow

HEAD = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n"
BODY = b"0123456789"


def test_a_request_in_any_pieces_is_whole_at_its_last_byte() -> None:
    random = Random(3)
    for _ in range(300):
        flow, data, taken, in_head = Inflow(), HEAD + BODY, 0, True
        while taken < len(data):
            piece = data[taken : taken + random.randrange(1, 20)]
            taken += len(piece)
            if in_head:
                in_head = not flow.take_head(piece)
                if not in_head:
                    flow.begin_body(content_length=10, is_chunked=False)
            else:
                flow.take_body(piece)
            assert in_head == (taken < len(HEAD))
            assert in_head or flow.is_whole == (taken == len(data))
        assert flow.held_bytes == 10
        assert not flow.end_exchange()
        assert flow.held_bytes == 0


def test_a_head_that_never_ends_is_counted() -> None:
    flow = Inflow()
    for _ in range(5):
        assert not flow.take_head(b"A: b\r\n")
    assert flow.head_bytes == 30


def test_what_was_sent_ahead_is_counted_on() -> None:
    flow = Inflow()
    flow.take_head(HEAD + BODY + b"GET / HTTP/1.1\r\n")
    flow.begin_body(content_length=10, is_chunked=False)
    assert flow.is_whole
    assert flow.end_exchange()
    assert flow.held_bytes == 16


@pytest.mark.parametrize(
    ("body", "is_whole"),
    [(b"2\r\nab\r\n0\r\n\r\n", True), (b"2\r\nab\r\n0\r\n", False), (b"2\r\nab", False), (b"", False)],
)
def test_chunks_end_in_an_empty_line(body: bytes, is_whole: bool) -> None:
    flow = Inflow()
    flow.take_head(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nA: b")
    flow.take_head(b"\r\n\r\n")
    flow.begin_body(content_length=None, is_chunked=True)
    for byte in body:
        flow.take_body(bytes([byte]))
    assert not flow.has_length
    assert flow.is_whole == (is_whole or not body)
    assert flow.end_exchange(), "more may follow: nothing says that it does not"


def test_a_request_without_a_body_is_whole_at_once() -> None:
    flow = Inflow()
    assert flow.take_head(b"GET / HTTP/1.1\r\n\r\n")
    flow.begin_body(content_length=None, is_chunked=False)
    assert flow.has_length
    assert flow.is_whole
