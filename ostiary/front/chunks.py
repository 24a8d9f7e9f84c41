"""Finds the end of a chunked body, strictly (RFC 9112 section 7.1). Pure.

Rules:
- A size has 1 to 16 hexadecimal digits and nothing around it; extensions are tokens and are ignored.
- Every line ends in CR LF, and so do the data of a chunk.
- A trailer is a field like those of a head, and none that frames, routes or identifies (RFC 9110 section
  6.5.1); what it says is ignored. Size lines and trailers are short.

How large the body may be is the application's to say, which counts its data.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Final

from ostiary.front.head import FIELD_VALUE, TOKEN, RefusedRequest

_QUOTED: Final = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*"'
_SIZE: Final = re.compile(
    rb"([0-9A-Fa-f]{1,16})"
    rb"(?:[ \t]*;[ \t]*" + TOKEN + rb"(?:[ \t]*=[ \t]*(?:" + TOKEN + rb"|" + _QUOTED + rb"))?)*"
)
_TRAILER: Final = re.compile(rb"(" + TOKEN + rb"):" + FIELD_VALUE)
_NO_TRAILERS: Final = frozenset(
    (b"host", b"content-length", b"transfer-encoding", b"te", b"trailer", b"authorization", b"content-type")
)
_MAX_LINE_BYTES: Final = 1024
_MAX_TRAILER_BYTES: Final = 8 << 10
_LINE_END: Final = b"\r\n"


class ChunkedBody:
    """How far one chunked body has come."""

    def __init__(self) -> None:
        self.is_whole = False
        # Of the data of a chunk, with their line end; 0: a line is to come.
        self._left_bytes = 0
        self._is_in_trailers = False
        self._trailer_bytes = 0

    def accept(self, data: bytes) -> int:
        """Return how many bytes of `data` are in order and belong to the body.

        What follows them is a line that is not complete yet, to be given again with more behind it; or it
        belongs to what comes after a body that `is_whole`. Raises RefusedRequest.
        """
        position = 0
        while not self.is_whole:
            if self._left_bytes:
                taken = min(self._left_bytes, len(data) - position)
                if not self._accept_data(data, position, taken):
                    return position
                position += taken
                if self._left_bytes:
                    return position
                continue
            end = data.find(_LINE_END, position)
            if end < 0:
                _check_unfinished(data, position)
                return position
            self._accept_line(data[position:end])
            position = end + len(_LINE_END)
        return position

    def _accept_data(self, data: bytes, position: int, taken: int) -> bool:
        """Take data of a chunk, and look at its line end where that is there."""
        for back, wanted in ((2, 0x0D), (1, 0x0A)):
            # The line end are the last two of the bytes that are left.
            at = position + self._left_bytes - back
            if position <= at < position + taken and data[at] != wanted:
                raise RefusedRequest(HTTPStatus.BAD_REQUEST)
        self._left_bytes -= taken
        return taken > 0

    def _accept_line(self, line: bytes) -> None:
        if len(line) > _MAX_LINE_BYTES:
            raise RefusedRequest(HTTPStatus.BAD_REQUEST)
        if self._is_in_trailers:
            self._accept_trailer(line)
            return
        found = _SIZE.fullmatch(line)
        if found is None:
            raise RefusedRequest(HTTPStatus.BAD_REQUEST)
        size_bytes = int(found[1], 16)
        if size_bytes == 0:
            self._is_in_trailers = True
        else:
            self._left_bytes = size_bytes + len(_LINE_END)

    def _accept_trailer(self, line: bytes) -> None:
        if not line:
            self.is_whole = True
            return
        self._trailer_bytes += len(line)
        found = _TRAILER.fullmatch(line)
        if found is None or found[1].lower() in _NO_TRAILERS or self._trailer_bytes > _MAX_TRAILER_BYTES:
            raise RefusedRequest(HTTPStatus.BAD_REQUEST)


def _check_unfinished(data: bytes, position: int) -> None:
    """Refuse at once what no further byte can make a line: its client may wait for an answer."""
    if len(data) - position > _MAX_LINE_BYTES or b"\n" in data[position:]:
        raise RefusedRequest(HTTPStatus.BAD_REQUEST)
