"""Cuts what a client sends into requests, and passes on one at a time, checked. Pure.

    stream.take(data)       # what is to be passed on to gunicorn of it, b"" for nothing yet
    stream.end_exchange()   # the request was answered: the same of what was sent ahead

Rules:
- gunicorn sees a head only when it is complete and in order, of a body only what belongs to it, and nothing
  of the next request before this one is answered. So nobody can have it take one request for two.
- What can't become a request is refused as soon as that shows, whether or not its end has come.
- A head has at most `max_head_bytes`, its first line `max_line_bytes`; gunicorn bounds its fields. What is
  sent ahead waits here, and whoever owns the connection stops reading when it is much (`ahead_bytes`).
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Final

from ostiary.front.chunks import ChunkedBody
from ostiary.front.head import RefusedRequest, read_head

_HEAD_END: Final = b"\r\n\r\n"
# A line feed without its CR, and NUL: no more bytes can make it right.
_NEVER_RIGHT: Final = re.compile(rb"(?<!\r)\n|\x00")


class RequestStream:
    """The requests of one connection."""

    def __init__(self, *, max_head_bytes: int, max_line_bytes: int) -> None:
        self._max_head_bytes = max_head_bytes
        self._max_line_bytes = max_line_bytes
        # What was not passed on: part of a head, of a line between chunks, or what was sent ahead.
        self._held = b""
        self._looked_bytes = 0
        self._passed_on_bytes = 0
        self._is_in_head = True
        self._left_bytes = 0
        self._chunks: ChunkedBody | None = None

    @property
    def is_in_head(self) -> bool:
        """Whether no head is complete: nothing of the next request was passed on."""
        return self._is_in_head

    @property
    def is_whole(self) -> bool:
        """Whether a request has come to its end and waits for its answer."""
        if self._is_in_head:
            return False
        return self._left_bytes == 0 if self._chunks is None else self._chunks.is_whole

    @property
    def ahead_bytes(self) -> int:
        """The bytes that were received and not passed on."""
        return len(self._held)

    @property
    def held_bytes(self) -> int:
        """The bytes that were received and not answered."""
        return len(self._held) + self._passed_on_bytes

    def take(self, data: bytes) -> bytes:
        """Take what the client sent; return what is to be passed on. Raises RefusedRequest."""
        self._held = self._held + data if self._held else data
        passed_on = self._pass_on()
        self._passed_on_bytes += len(passed_on)
        return passed_on

    def end_exchange(self) -> bytes:
        """Begin the next request; return what is to be passed on of it. Raises RefusedRequest."""
        if not self.is_whole:
            raise AssertionError("an answer to a request that is not whole must end the connection")
        self._is_in_head, self._chunks, self._looked_bytes = True, None, 0
        self._passed_on_bytes = 0
        return self.take(b"")

    def _pass_on(self) -> bytes:
        passed_on = b""
        if self._is_in_head:
            end = self._find_end()
            if end < 0:
                return b""
            head = read_head(self._held[:end])
            self._held = self._held[end:]
            self._is_in_head = False
            passed_on = head.passed_on
            self._left_bytes = head.body_bytes or 0
            self._chunks = ChunkedBody() if head.body_bytes is None else None
        if not self._held:
            return passed_on
        body_bytes = self._accept_body()
        passed_on += self._held[:body_bytes]
        self._held = self._held[body_bytes:]
        return passed_on

    def _accept_body(self) -> int:
        if self._chunks is not None:
            return self._chunks.accept(self._held)
        taken = min(self._left_bytes, len(self._held))
        self._left_bytes -= taken
        return taken

    def _find_end(self) -> int:
        """Return the length of the head with its empty line, -1 where that has not come yet."""
        begin = max(0, self._looked_bytes - len(_HEAD_END) + 1)
        end = self._held.find(_HEAD_END, begin)
        wrong = _NEVER_RIGHT.search(self._held, begin, len(self._held) if end < 0 else end)
        if wrong is not None:
            raise RefusedRequest(HTTPStatus.BAD_REQUEST)
        length = len(self._held) if end < 0 else end
        # The first line may come after an empty one.
        if length > self._max_line_bytes and self._held.find(b"\r\n", 2, self._max_line_bytes + 4) < 0:
            raise RefusedRequest(HTTPStatus.REQUEST_URI_TOO_LONG)
        if length > self._max_head_bytes:
            raise RefusedRequest(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        self._looked_bytes = len(self._held)
        return end if end < 0 else end + len(_HEAD_END)
