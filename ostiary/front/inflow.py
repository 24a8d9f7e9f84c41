"""How far a request has arrived: where its head ends, and whether its body is whole. Pure.

It parses nothing: gunicorn does, and says how the body is framed. This only counts what gunicorn was fed, so
that whoever owns the connection knows what it waits for.

Rules:
- A head ends at the first empty line (RFC 9112 section 2.1), even where what is before it is no HTTP.
- Of what was sent ahead, the framing is not known until gunicorn takes it; until then it is only counted.
"""

from __future__ import annotations

from typing import Final

_HEAD_END: Final = b"\r\n\r\n"


class Inflow:
    """The counts of one connection."""

    def __init__(self) -> None:
        # The last bytes: an empty line may arrive in pieces.
        self._tail = b""
        self._head_bytes = 0
        self._body_bytes = 0
        self._content_length: int | None = None
        self._is_chunked = False

    @property
    def head_bytes(self) -> int:
        """The bytes of a head that is not complete."""
        return self._head_bytes

    @property
    def held_bytes(self) -> int:
        """What arrived and was not served yet."""
        return self._head_bytes + self._body_bytes

    def take_head(self, data: bytes) -> bool:
        """Count `data` as a head, and what follows it; return whether the head is complete."""
        window = self._tail + data
        end = window.find(_HEAD_END)
        self._tail = window[-3:]
        if end < 0:
            self._head_bytes += len(data)
            return False
        self._head_bytes = 0
        self._body_bytes = len(window) - end - len(_HEAD_END)
        self._content_length, self._is_chunked = None, False
        return True

    def take_body(self, data: bytes) -> None:
        """Count `data` as a body, or as what was sent ahead."""
        self._body_bytes += len(data)
        self._tail = (self._tail + data[-3:])[-3:]

    def begin_body(self, *, content_length: int | None, is_chunked: bool) -> None:
        """Note how the body is framed: neither length nor chunks is no body (RFC 9112 section 6.3)."""
        self._content_length = None if is_chunked else (content_length or 0)
        self._is_chunked = is_chunked

    @property
    def is_whole(self) -> bool:
        """Whether the body has arrived, as far as counting tells: for sure where it has a length."""
        if self._content_length is not None:
            return self._body_bytes >= self._content_length
        # Before gunicorn said how it is framed there may be none; a chunked body and its trailers end in an
        # empty line (RFC 9112 section 7.1).
        return not self._is_chunked or self._tail == b"\n\r\n"

    @property
    def has_length(self) -> bool:
        """Whether `is_whole` is sure."""
        return self._content_length is not None

    def end_exchange(self) -> bool:
        """The request was served; return whether more may have been sent ahead."""
        self._head_bytes = 0
        if self._content_length is None:
            # Of a chunked body nothing is known but that it is over.
            self._body_bytes = 0
            return True
        self._body_bytes = max(0, self._body_bytes - self._content_length)
        return self._body_bytes > 0
