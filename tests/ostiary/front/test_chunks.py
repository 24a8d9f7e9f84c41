"""Where a chunked body ends, however it is cut, and what is no such body."""

from __future__ import annotations

from random import Random

import pytest

from ostiary.front.chunks import ChunkedBody
from ostiary.front.head import RefusedRequest

BODIES = (
    b"0\r\n\r\n",
    b"5\r\nhello\r\n0\r\n\r\n",
    b"00a\r\n0123456789\r\n0\r\n\r\n",
    b'5;a;b=c;d="e;\\"f"\r\n\r\n\r\n\r\r\n0 ; x = y\r\nX: a\r\nY:\r\n\r\n',
    b"3\r\n0\r\n\r\n1\r\n\n\r\n0\r\n\r\n",
)
NEXT = b"GET / HTTP/1.1\r\n"


def accepted(data: bytes, cut: int, random: Random) -> bytes:
    """Take `data` in pieces as a connection does; return what was accepted."""
    body, held, found = ChunkedBody(), b"", b""
    while data and not body.is_whole:
        length = random.randrange(1, cut + 1)
        held, data = held + data[:length], data[length:]
        taken = body.accept(held)
        found, held = found + held[:taken], held[taken:]
    assert body.is_whole
    return found


@pytest.mark.parametrize("body", BODIES)
def test_a_body_ends_where_it_ends_in_any_pieces(body: bytes) -> None:
    random = Random(5)
    for cut in (1, 2, 3, 7, 100):
        assert accepted(body + NEXT, cut, random) == body


@pytest.mark.parametrize(
    "body",
    [
        b"g\r\n",
        b"\r\n",
        b"5 \r\n",
        b" 5\r\n",
        b"0x5\r\n",
        b"+5\r\n",
        b"11111111111111111\r\n",
        b"5;\r\n",
        b"5;a=\r\n",
        b'5;a="b\r\n',
        b"5\n",
        b"5\rhello",
        b"5\r\nhelloX\r\n",
        b"5\r\nhello\n",
        b"5\r\nhello\r0",
        b"0\r\nX\r\n\r\n",
        b"0\r\nX : a\r\n\r\n",
        b"0\r\n X: a\r\n\r\n",
        b"0\r\nX: a\rb\r\n\r\n",
        b"0\r\nX: \x00\r\n\r\n",
        b"0\r\n\n",
        b"5;a=" + b"b" * 1100,
        b"0\r\n" + b"X: a\r\n" * 3000 + b"\r\n",
    ],
)
def test_anything_else_is_refused_in_any_pieces(body: bytes) -> None:
    random = Random(7)
    for cut in (1, 2, 100, len(body)):
        with pytest.raises(RefusedRequest):
            accepted(body + NEXT, cut, random)


def test_a_large_chunk_is_taken_as_it_comes() -> None:
    body = ChunkedBody()
    assert body.accept(b"ffffffffffffffff\r\n" + b"x" * 1000) == 1018
    assert body.accept(b"x" * 5000) == 5000
    assert not body.is_whole
