"""How many requests a strict reader finds in a stream of bytes: a judge of what a server made of them.

It shares nothing with what it judges, and reads line by line (RFC 9112). What a request asks for is not its
concern: only where it ends.
"""

from __future__ import annotations

import string
from typing import Final

_TOKEN: Final = frozenset(f"{string.ascii_letters}{string.digits}!#$%&'*+-.^_`|~".encode())
_DIGITS: Final = frozenset(b"0123456789")
_HEX: Final = frozenset(b"0123456789abcdefABCDEF")
_VERSIONS: Final = frozenset((b"HTTP/1.1", b"HTTP/1.0"))
_CRLF: Final = b"\r\n"


class _Stop(Exception):
    """The stream ends within a request, or what follows is none."""


def count_requests(data: bytes) -> int:
    """Return how many whole requests come before the first that is malformed, cut off, or the last by its own
    word.
    """
    count, position = 0, 0
    try:
        while position < len(data):
            position, is_last = _read_request(data, position)
            count += 1
            if is_last:
                break
    except _Stop:
        pass
    return count


def _read_request(data: bytes, position: int) -> tuple[int, bool]:
    """Return where a request ends, and whether its connection ends with it."""
    line, position = _line(data, position)
    if not line:
        line, position = _line(data, position)
    parts = line.split(b" ")
    if (
        len(parts) != 3
        or not _is_token(parts[0])
        or not parts[1]
        or parts[2] not in {b"HTTP/1.1", b"HTTP/1.0"}
    ):
        raise _Stop
    fields, position = _fields(data, position)
    lengths = [value for name, value in fields if name == b"content-length"]
    codings = [value for name, value in fields if name == b"transfer-encoding"]
    connection = b",".join(value.lower() for name, value in fields if name == b"connection")
    is_last = b"close" in connection or (parts[2] == b"HTTP/1.0" and b"keep-alive" not in connection)
    if codings:
        if lengths or len(codings) > 1 or codings[0].lower() != b"chunked" or parts[2] == b"HTTP/1.0":
            raise _Stop
        return _read_chunks(data, position), is_last
    if not lengths:
        return position, is_last
    if len(lengths) > 1 or not lengths[0] or not _DIGITS.issuperset(lengths[0]):
        raise _Stop
    end = position + int(lengths[0][-18:]) if len(lengths[0].lstrip(b"0")) <= 18 else len(data) + 1
    if end > len(data):
        raise _Stop
    return end, is_last


def _read_chunks(data: bytes, position: int) -> int:
    while True:
        line, position = _line(data, position)
        size = line.partition(b";")[0].rstrip(b" \t") if b";" in line else line
        if not size or not _HEX.issuperset(size):
            raise _Stop
        size_bytes = int(size[-16:], 16) if len(size.lstrip(b"0")) <= 16 else len(data) + 1
        if size_bytes == 0:
            return _fields(data, position)[1]
        position += size_bytes
        if data[position : position + 2] != _CRLF:
            raise _Stop
        position += 2


def _fields(data: bytes, position: int) -> tuple[list[tuple[bytes, bytes]], int]:
    """Read fields up to an empty line."""
    fields: list[tuple[bytes, bytes]] = []
    while True:
        line, position = _line(data, position)
        if not line:
            return fields, position
        name, colon, value = line.partition(b":")
        if not colon or not _is_token(name):
            raise _Stop
        fields.append((name.lower(), value.strip(b" \t")))


def _line(data: bytes, position: int) -> tuple[bytes, int]:
    end = data.find(_CRLF, position)
    line = data[position:end]
    if end < 0 or any(byte in line for byte in b"\r\n\x00"):
        raise _Stop
    return line, end + 2


def _is_token(name: bytes) -> bool:
    return bool(name) and _TOKEN.issuperset(name)
