"""Reads the head of a request strictly: what two programs could read differently is refused. Pure.

gunicorn reads every head once more: this decides alone where a body ends, and gunicorn must agree.

Plan of `read_head`:
1. Every byte of it is where RFC 9112 allows it: one space each between method, target and version, no white
   space before a colon, no folded line, lines that end in CR LF.
2. The method could be one. The target is a path (origin-form), an absolute URI of http, or `*` for OPTIONS.
   Of an absolute URI the host is ignored, and the head is passed on with its path (section 3.2.2).
3. There is one Host, and it is a host (section 3.2); HTTP/1.0 may go without.
4. The body is framed in one way: by one Content-Length of digits, or by `chunked` and nothing else (section
   6). Any other transfer coding is not implemented.
5. What identifies or is expected stands there once; no expectation but 100-continue (RFC 9110 section
   10.1.1).
6. No WebSocket: gunicorn would take it. Another Upgrade is ignored, as RFC 9110 section 7.8 has it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
FIELD_VALUE: Final = rb"[\t\x20-\x7e\x80-\xff]*"
_PATH: Final = rb"/(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/]|%[0-9A-Fa-f]{2})*"
_QUERY: Final = rb"(?:\?(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/?]|%[0-9A-Fa-f]{2})*)?"
_HOST: Final = rb"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9\-._~]+)(?::[0-9]*)?"

# An empty line may come first (RFC 9112 section 2.2).
_HEAD: Final = re.compile(
    rb"(?:\r\n)?(" + TOKEN + rb") ([\x21-\x7e]+) HTTP/1\.([01])\r\n"
    rb"((?:" + TOKEN + rb":" + FIELD_VALUE + rb"\r\n)*)\r\n"
)
_ORIGIN_FORM: Final = re.compile(_PATH + _QUERY)
_ABSOLUTE_FORM: Final = re.compile(rb"(?i:https?)://" + _HOST + rb"((?:" + _PATH + rb")?" + _QUERY + rb")")
_HOST_FIELD: Final = re.compile(_HOST)
_OTHER_VERSION: Final = re.compile(
    rb"(?:\r\n)?" + TOKEN + rb" [\x21-\x7e]+ HTTP/(?!1\.[01]\r)[0-9]\.[0-9]\r\n"
)
# The registered methods (RFC 9110 section 16.1.1); all others are not implemented, CONNECT neither.
_METHOD: Final = re.compile(rb"(?!CONNECT$)[A-Z][A-Z_-]{2,19}")
# 10^18 bytes are beyond any limit; int() is slow for thousands of digits, and refuses more.
_MAX_LENGTH_DIGITS: Final = 18
_ONCE: Final = frozenset(
    (b"host", b"content-length", b"content-type", b"transfer-encoding", b"authorization")
)


class RefusedRequest(Exception):
    """What a client sent is no request that can be served; the answer has this status."""

    def __init__(self, status: HTTPStatus) -> None:
        super().__init__(status.phrase)
        self.status = status


@dataclass(frozen=True, slots=True)
class Head:
    """A head that was read. `passed_on` is for gunicorn; `body_bytes` is None where the body is chunked."""

    passed_on: bytes
    body_bytes: int | None


def read_head(data: bytes) -> Head:
    """Read a head up to its empty line; the numbers are those of the module's plan. Raises RefusedRequest."""
    # 1.
    found = _HEAD.fullmatch(data)
    if found is None:
        is_other = _OTHER_VERSION.match(data) is not None
        raise RefusedRequest(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED if is_other else HTTPStatus.BAD_REQUEST)
    method, target, minor_version, lines = found.groups()
    # 2.
    if _METHOD.fullmatch(method) is None:
        raise RefusedRequest(HTTPStatus.NOT_IMPLEMENTED)
    passed_on = data
    if _ORIGIN_FORM.fullmatch(target) is None and not (target == b"*" and method == b"OPTIONS"):
        begin, end = found.span(2)
        passed_on = data[:begin] + _path_of(target) + data[end:]
    fields = _fields(lines)
    # 3.
    host = fields.get(b"host")
    if host is None:
        if minor_version == b"1":
            raise RefusedRequest(HTTPStatus.BAD_REQUEST)
    elif _HOST_FIELD.fullmatch(host) is None:
        raise RefusedRequest(HTTPStatus.BAD_REQUEST)
    # 6.
    if b"websocket" in fields.get(b"upgrade", b"").lower():
        raise RefusedRequest(HTTPStatus.BAD_REQUEST)
    # 4.
    return Head(passed_on, _body_bytes(fields, minor_version))


def _path_of(target: bytes) -> bytes:
    """Return path and query of an absolute URI."""
    found = _ABSOLUTE_FORM.fullmatch(target)
    if found is None:
        raise RefusedRequest(HTTPStatus.BAD_REQUEST)
    path = found[1]
    return path if path.startswith(b"/") else b"/" + path


def _fields(lines: bytes) -> dict[bytes, bytes]:
    """Return the fields by name in lower case, the last of each; 5. refuse what must not come twice."""
    fields: dict[bytes, bytes] = {}
    for line in lines.split(b"\r\n")[:-1]:
        name, _, value = line.partition(b":")
        name, value = name.lower(), value.strip(b" \t")
        if name in fields and name in _ONCE:
            raise RefusedRequest(HTTPStatus.BAD_REQUEST)
        if name == b"expect" and value.lower() != b"100-continue":
            raise RefusedRequest(HTTPStatus.EXPECTATION_FAILED)
        fields[name] = value
    return fields


def _body_bytes(fields: dict[bytes, bytes], minor_version: bytes) -> int | None:
    length, coding = fields.get(b"content-length"), fields.get(b"transfer-encoding")
    if coding is None:
        if length is None:
            return 0
        if not length.isdigit():
            raise RefusedRequest(HTTPStatus.BAD_REQUEST)
        if len(length) > _MAX_LENGTH_DIGITS:
            raise RefusedRequest(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        return int(length)
    if length is not None or minor_version == b"0" or coding.lower().count(b"chunked") > 1:
        raise RefusedRequest(HTTPStatus.BAD_REQUEST)
    if coding.lower() != b"chunked":
        raise RefusedRequest(HTTPStatus.NOT_IMPLEMENTED)
    return None
