"""Requests that no server may take for what they seem: malformed, or such as two programs read differently.

    check(listener, case)       # AssertionError says what a listener did with it

Each is followed on its connection by a request that is in order (GLUED). A listener must answer the bad one
with a status of `expected`, quote nothing of it, and close the connection without an answer to what follows.

Sources: RFC 9112 (the sections stand above the cases), RFC 9110, and what proxies and servers were found to
read differently since "HTTP Desync Attacks" (Kettle, 2019).
"""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tests.support.waiting import PATIENCE_S

MARK: Final = b"marked-7731"
"""Stands in every request: it must not come back."""
GLUED: Final = b"GET /glued HTTP/1.1\r\nHost: x\r\n\r\n"


@dataclass(frozen=True, kw_only=True)
class Listener:
    """What is tested: how a client connects, and a request with a body that it accepts up to the framing.

    `post` is a request line with the fields that the body needs, but none of Host, Content-Length and
    Transfer-Encoding, each line ended.
    """

    name: str
    connect: Callable[[], socket.socket]
    post: bytes = b"POST / HTTP/1.1\r\nContent-Type: application/json\r\n"
    body_limit_bytes: int = 1000


@dataclass(frozen=True, kw_only=True)
class Case:
    """One request. In `sent`, @POST@ is a listener's `post` with Host, @MORE@ more bytes than a body may
    have.

    `ends`: the client sends nothing more and says so, since the request is cut off.
    """

    name: str
    sent: bytes
    expected: frozenset[int]
    ends: bool = False


def _case(name: str, sent: bytes, *expected: int, ends: bool = False) -> Case:
    return Case(name=name, sent=sent, expected=frozenset(expected or (400,)), ends=ends)


_STATUS: Final = re.compile(rb"HTTP/1\.[01] ([0-9]{3}) ")
_LENGTH: Final = re.compile(rb"\r\ncontent-length: ([0-9]+)", re.IGNORECASE)
_GET: Final = b"GET /marked-7731 HTTP/1.1\r\n"
_HOST: Final = b"Host: x\r\n"
_CHUNKED: Final = b"Transfer-Encoding: chunked\r\n"
_HELLO: Final = b"5\r\nhello\r\n0\r\n\r\n"
_END: Final = b"\r\n"


def _line(name: str, line: bytes, *expected: int) -> Case:
    """A request line that is wrong; its line end belongs to it."""
    return _case(f"request line: {name}", line + _HOST + b"X: marked-7731\r\n" + _END, *expected)


def _field(name: str, fields: bytes, *expected: int) -> Case:
    """A GET with fields that are wrong; their line ends belong to them."""
    return _case(f"field: {name}", _GET + _HOST + fields + _END, *expected)


def _length(name: str, fields: bytes, *expected: int, body: bytes = b"hello") -> Case:
    """A POST whose framing is wrong."""
    return _case(f"framing: {name}", b"@POST@" + fields + _END + body, *expected)


def _chunks(name: str, body: bytes, *expected: int) -> Case:
    """A chunked POST whose body is wrong."""
    return _case(f"chunked: {name}", b"@POST@" + _CHUNKED + _END + body, *expected)


CASES: Final = (
    # --- RFC 9112 section 3: the request line ---
    _line("two spaces before the target", b"GET  /marked-7731 HTTP/1.1\r\n"),
    _line("two spaces before the version", b"GET /marked-7731  HTTP/1.1\r\n"),
    _line("tabs for spaces", b"GET\t/marked-7731\tHTTP/1.1\r\n"),
    _line("a leading space", b" GET /marked-7731 HTTP/1.1\r\n"),
    _line("a trailing space", b"GET /marked-7731 HTTP/1.1 \r\n"),
    _line("a space in the target", b"GET /marked 7731 HTTP/1.1\r\n"),
    _line("a form feed in the target", b"GET /marked-7731\x0c HTTP/1.1\r\n"),
    _line("NUL in the target", b"GET /marked-7731\x00 HTTP/1.1\r\n"),
    _line("NUL in the method", b"GE\x00T /marked-7731 HTTP/1.1\r\n"),
    _line("a byte beyond ASCII in the target", b"GET /marked-7731\xe9 HTTP/1.1\r\n"),
    _line("a fragment in the target", b"GET /marked-7731#part HTTP/1.1\r\n"),
    _line("a broken percent-encoding", b"GET /marked-7731%zz HTTP/1.1\r\n"),
    _line("a target with a backslash", b"GET \\marked-7731 HTTP/1.1\r\n"),
    _line("a relative target", b"GET marked-7731 HTTP/1.1\r\n"),
    _line("no target", b"GET HTTP/1.1\r\n"),
    _line("nothing but a method", b"GET\r\n"),
    _line("no version (HTTP/0.9)", b"GET /marked-7731\r\n"),
    _line("an absolute-form without a host", b"GET http:///marked-7731 HTTP/1.1\r\n"),
    _line("an absolute-form with a user", b"GET http://a@x/marked-7731 HTTP/1.1\r\n"),
    _line("an absolute-form of another scheme", b"GET ftp://x/marked-7731 HTTP/1.1\r\n"),
    _line("an asterisk for another method than OPTIONS", b"GET * HTTP/1.1\r\n"),
    _line("CONNECT", b"CONNECT marked-7731:443 HTTP/1.1\r\n", 400, 405, 501),
    _line("CONNECT to a path", b"CONNECT /marked-7731 HTTP/1.1\r\n", 400, 405, 501),
    _line("a method in lower case", b"get /marked-7731 HTTP/1.1\r\n", 400, 501),
    _line("a method that is no token", b"GE(T /marked-7731 HTTP/1.1\r\n"),
    _line("an overlong method", b"G" * 5000 + b" /marked-7731 HTTP/1.1\r\n", 400, 414, 501),
    _line("HTTP/2.0", b"GET /marked-7731 HTTP/2.0\r\n", 400, 505),
    _line("HTTP/1.10", b"GET /marked-7731 HTTP/1.10\r\n", 400, 505),
    _line("http/1.1 in lower case", b"GET /marked-7731 http/1.1\r\n", 400, 505),
    _line("a version with a space", b"GET /marked-7731 HTTP/ 1.1\r\n", 400, 505),
    _line("more behind the version", b"GET /marked-7731 HTTP/1.1 marked-7731\r\n", 400, 505),
    _line("a bare LF at its end", b"GET /marked-7731 HTTP/1.1\n"),
    _line("a bare CR at its end", b"GET /marked-7731 HTTP/1.1\r"),
    _line("CR CR LF at its end", b"GET /marked-7731 HTTP/1.1\r\r\n", 400, 505),
    _line("two empty lines before it", b"\r\n\r\nGET /marked-7731 HTTP/1.1\r\n"),
    _line("a bare LF before it", b"\nGET /marked-7731 HTTP/1.1\r\n"),
    _line("too long", b"GET /" + b"a" * 8200 + b" HTTP/1.1\r\n", 414),
    _line("too long without an end", b"GET /" + b"a" * 20_000, 414),
    _case("request line: the preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, 505),
    _case("request line: a TLS handshake", bytes.fromhex("16030100050100000103") + b"\r\n\r\n", 400),
    # --- RFC 9112 section 3.2: Host ---
    _case("host: none", _GET + _END),
    _case("host: two", _GET + b"Host: x\r\nHost: marked-7731\r\n" + _END),
    _case("host: two that are equal", _GET + b"Host: x\r\nHost: x\r\n" + _END),
    _case("host: two in HTTP/1.0", b"GET /marked-7731 HTTP/1.0\r\nHost: x\r\nHost: y\r\n" + _END),
    _case("host: empty", _GET + b"Host:\r\n" + _END),
    _case("host: a space in it", _GET + b"Host: x marked-7731\r\n" + _END),
    _case("host: a list", _GET + b"Host: x, marked-7731\r\n" + _END),
    _case("host: a user", _GET + b"Host: marked-7731@x\r\n" + _END),
    _case("host: a path", _GET + b"Host: x/marked-7731\r\n" + _END),
    _case("host: a port that is none", _GET + b"Host: x:marked-7731\r\n" + _END),
    _case("host: a second name under a folded line", _GET + b"Host: x\r\n marked-7731\r\n" + _END),
    # --- RFC 9112 section 5: fields ---
    _field("white space before the colon", b"X-Marked : marked-7731\r\n"),
    _field("a tab before the colon", b"X-Marked\t: marked-7731\r\n"),
    _field("no colon", b"marked-7731\r\n"),
    _field("no name", b": marked-7731\r\n"),
    _field("a name that is no token", b"X(marked): marked-7731\r\n"),
    _field("a name beyond ASCII", b"X-\xc3\xa9: marked-7731\r\n"),
    _field("a folded line", b"X: a\r\n marked-7731\r\n"),
    _field("a line folded by a tab", b"X: a\r\n\tmarked-7731\r\n"),
    _case("field: a folded line before all others", _GET + b" X: marked-7731\r\n" + _HOST + _END),
    _field("NUL in a name", b"X\x00: marked-7731\r\n"),
    _field("NUL in a value", b"X: marked\x007731\r\n"),
    _field("a control character in a value", b"X: marked\x087731\r\n"),
    _field("DEL in a value", b"X: marked\x7f7731\r\n"),
    _field("a bare CR in a value", b"X: marked\r7731\r\n"),
    _field("a bare CR that hides a field", b"X: a\rTransfer-Encoding: chunked\r\n"),
    _field("a bare LF that hides a field", b"X: a\nTransfer-Encoding: chunked\r\n"),
    _field("CR CR LF", b"X: marked-7731\r\r\n"),
    _case("field: lines that end in bare LF", b"GET / HTTP/1.1\nHost: x\n\n"),
    _case("field: the last line ends in LF LF", _GET + b"Host: x\n\n"),
    _case("field: the last line ends in LF CR LF", _GET + b"Host: x\n\r\n"),
    _field("too long", b"X: " + b"a" * 9000 + b"\r\n", 431),
    _field("too many", b"X: a\r\n" * 200, 431),
    _field("too much in all", (b"X: " + b"a" * 1500 + b"\r\n") * 40, 431),
    _field("too long without an end", b"X: " + b"a" * 40_000, 431),
    _field("two Content-Types", b"Content-Type: a/b\r\nContent-Type: a/c\r\n"),
    _field("two Authorizations", b"Authorization: Basic eA==\r\nAuthorization: Basic eQ==\r\n"),
    _field(
        "a WebSocket",
        b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: bWFya2VkLTc3MzEtLi4uLg==\r\n",
    ),
    # --- RFC 9110 section 10.1.1: Expect ---
    _field("an expectation that is none", b"Expect: marked-7731\r\n", 417),
    _field("an expectation beside 100-continue", b"Expect: 100-continue, marked-7731\r\n", 417),
    _field("two expectations", b"Expect: marked-7731\r\nExpect: 100-continue\r\n", 417),
    # --- RFC 9112 section 6: how long the body is ---
    _length("Content-Length and Transfer-Encoding", b"Content-Length: 5\r\n" + _CHUNKED, body=_HELLO),
    _length("Transfer-Encoding and Content-Length", _CHUNKED + b"Content-Length: 5\r\n", body=_HELLO),
    _length("two lengths", b"Content-Length: 5\r\nContent-Length: 6\r\n"),
    _length("two lengths that are equal", b"Content-Length: 5\r\nContent-Length: 5\r\n"),
    _length("a list of lengths", b"Content-Length: 5, 5\r\n"),
    _length("a length with a sign", b"Content-Length: +5\r\n"),
    _length("a negative length", b"Content-Length: -5\r\n"),
    _length("a length in hexadecimal", b"Content-Length: 0x5\r\n"),
    _length("a length with an underscore", b"Content-Length: 0_5\r\n"),
    _length("a length with a point", b"Content-Length: 5.0\r\n"),
    _length("a length with a space", b"Content-Length: 0 5\r\n"),
    _length("a length behind a no-break space", b"Content-Length:\xa05\r\n"),
    _length("a length behind a vertical tab", b"Content-Length:\x0b5\r\n"),
    _length("a length in full-width digits", b"Content-Length: \xef\xbc\x95\r\n"),
    _length("an empty length", b"Content-Length:\r\n"),
    _length("a length before a space and the colon", b"Content-Length : 5\r\n"),
    _length("a length on a folded line", b"Content-Length:\r\n 5\r\n"),
    _length("a length beyond all limits", b"Content-Length: " + b"9" * 30 + b"\r\n", 413),
    _length("a length of 5000 digits", b"Content-Length: " + b"9" * 5000 + b"\r\n", 400, 413),
    _length("identity", b"Transfer-Encoding: identity\r\n", 400, 501),
    _length("gzip", b"Transfer-Encoding: gzip\r\n", 400, 501),
    _length("gzip, chunked", b"Transfer-Encoding: gzip, chunked\r\n", 501, body=_HELLO),
    _length("identity, chunked", b"Transfer-Encoding: identity, chunked\r\n", 400, 501, body=_HELLO),
    _length("chunked, gzip", b"Transfer-Encoding: chunked, gzip\r\n", 400, 501, body=_HELLO),
    _length("chunked twice", b"Transfer-Encoding: chunked, chunked\r\n", body=_HELLO),
    _length("chunked on two lines", _CHUNKED + _CHUNKED, body=_HELLO),
    _length(
        "identity and chunked on two lines",
        b"Transfer-Encoding: identity\r\n" + _CHUNKED,
        400,
        501,
        body=_HELLO,
    ),
    _length("xchunked", b"Transfer-Encoding: xchunked\r\n", 400, 501, body=_HELLO),
    _length("chunked with a parameter", b"Transfer-Encoding: chunked;q=1\r\n", 400, 501, body=_HELLO),
    _length("chunked in quotes", b'Transfer-Encoding: "chunked"\r\n', 400, 501, body=_HELLO),
    _length("chunked behind a vertical tab", b"Transfer-Encoding:\x0bchunked\r\n", 400, 501, body=_HELLO),
    _length("chunked before a space and the colon", b"Transfer-Encoding : chunked\r\n", body=_HELLO),
    _length("chunked on a folded line", b"Transfer-Encoding:\r\n chunked\r\n", body=_HELLO),
    _length("an empty transfer coding", b"Transfer-Encoding:\r\n", 400, 501, body=_HELLO),
    _length("an empty member before chunked", b"Transfer-Encoding: , chunked\r\n", 400, 501, body=_HELLO),
    _case("framing: chunked in HTTP/1.0", b"POST / HTTP/1.0\r\n" + _HOST + _CHUNKED + _END + _HELLO),
    _case("framing: a body that is cut off", b"@POST@Content-Length: 500\r\n\r\nhello", ends=True),
    _case("framing: chunks that are cut off", b"@POST@" + _CHUNKED + b"\r\n5\r\nhel", ends=True),
    # --- RFC 9112 section 7.1: chunks ---
    _chunks("a size that is no number", b"g\r\nhello\r\n0\r\n\r\n"),
    _chunks("an empty size", b"\r\nhello\r\n0\r\n\r\n"),
    _chunks("a size with a sign", b"+5\r\nhello\r\n0\r\n\r\n"),
    _chunks("a negative size", b"-5\r\nhello\r\n0\r\n\r\n"),
    _chunks("a size with 0x", b"0x5\r\nhello\r\n0\r\n\r\n"),
    _chunks("a size with an underscore", b"0_5\r\nhello\r\n0\r\n\r\n"),
    _chunks("a space before the size", b" 5\r\nhello\r\n0\r\n\r\n"),
    _chunks("a space behind the size", b"5 \r\nhello\r\n0\r\n\r\n"),
    _chunks("a bare LF behind the size", b"5\nhello\r\n0\r\n\r\n"),
    _chunks("a bare CR behind the size", b"5\rhello\r\n0\r\n\r\n"),
    _chunks("CR CR LF behind the size", b"5\r\r\nhello\r\n0\r\n\r\n"),
    _chunks("a bare LF in an extension", b"5;a=\nb\r\nhello\r\n0\r\n\r\n"),
    _chunks("a bare CR in an extension", b"5;a=\rb\r\nhello\r\n0\r\n\r\n"),
    _chunks("NUL in an extension", b"5;a=\x00\r\nhello\r\n0\r\n\r\n"),
    _chunks("an extension that is no token", b"5;a=(\r\nhello\r\n0\r\n\r\n"),
    _chunks("an extension that is too long", b"5;a=" + b"b" * 9000 + b"\r\nhello\r\n0\r\n\r\n"),
    _chunks("data that is longer than its size", b"5\r\nhelloX\r\n0\r\n\r\n"),
    _chunks("no line end behind the data", b"5\r\nhello0\r\n\r\n"),
    _chunks("a bare LF behind the data", b"5\r\nhello\n0\r\n\r\n"),
    _chunks("a bare CR behind the data", b"5\r\nhello\r0\r\n\r\n"),
    _chunks("a size of 17 digits", b"F" * 17 + b"\r\n@MORE@", 400, 413),
    _chunks("a size of 5000 digits", b"F" * 5000 + b"\r\n@MORE@", 400, 413),
    _chunks("more than a body may have", b"FFFFFF\r\n@MORE@", 413),
    # --- RFC 9112 section 7.1.2, RFC 9110 section 6.5.1: trailers ---
    _chunks("a Content-Length as trailer", b"0\r\nContent-Length: 5\r\n\r\n"),
    _chunks("a Transfer-Encoding as trailer", b"0\r\nTransfer-Encoding: chunked\r\n\r\n"),
    _chunks("a Host as trailer", b"0\r\nHost: marked-7731\r\n\r\n"),
    _chunks("an Authorization as trailer", b"0\r\nAuthorization: marked-7731\r\n\r\n"),
    _chunks("a Content-Length as trailer, a space before the colon", b"0\r\nContent-Length : 5\r\n\r\n"),
    _chunks("a trailer without a colon", b"0\r\nmarked-7731\r\n\r\n"),
    _chunks("a trailer without a name", b"0\r\n: marked-7731\r\n\r\n"),
    _chunks("a folded trailer", b"0\r\nX: a\r\n marked-7731\r\n\r\n"),
    _chunks("a bare CR in a trailer", b"0\r\nX: a\rb\r\n\r\n"),
    _chunks("a bare LF in a trailer", b"0\r\nX: a\nb\r\n\r\n"),
    _chunks("a bare LF for the last line", b"0\r\n\n"),
    _chunks("NUL in a trailer", b"0\r\nX: a\x00\r\n\r\n"),
    _chunks("too many trailers", b"0\r\n" + b"X: a\r\n" * 200 + b"\r\n", 400, 431),
    _chunks("a trailer that is too long", b"0\r\nX: " + b"a" * 9000 + b"\r\n\r\n", 400, 431),
)


def check(listener: Listener, case: Case, *, piece_bytes: int | None = None) -> None:
    """Send a case, in pieces of `piece_bytes` if given, and check what comes back."""
    received = exchange(listener, case, piece_bytes=piece_bytes)
    status, after = first_answer(received)
    assert status in case.expected, f"{status} and not {sorted(case.expected)}: {received[:300]!r}"
    assert after == b"", f"more behind the answer: {after[:300]!r}"
    assert MARK not in received, f"quoted: {received[:1000]!r}"


def exchange(listener: Listener, case: Case, *, piece_bytes: int | None = None) -> bytes:
    """Send a case and what is glued to it; return all bytes that came until the listener closed."""
    sent = case.sent.replace(b"@POST@", with_host(listener)).replace(
        b"@MORE@", b"m" * (listener.body_limit_bytes + 100)
    )
    if not case.ends:
        sent += GLUED
    with listener.connect() as sock:
        sock.settimeout(PATIENCE_S)
        # A listener that has answered and closed takes no more.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for begin in range(0, len(sent), piece_bytes or len(sent)):
                sock.sendall(sent[begin : begin + (piece_bytes or len(sent))])
            if case.ends:
                sock.shutdown(socket.SHUT_WR)
        return until_closed(sock)


def with_host(listener: Listener) -> bytes:
    """Return the listener's `post` with a Host."""
    request_line, _, fields = listener.post.partition(b"\r\n")
    return request_line + b"\r\n" + _HOST + fields


def until_closed(sock: socket.socket) -> bytes:
    """Return all bytes until the other end closes."""
    received = b""
    try:
        while data := sock.recv(65536):
            received += data
    except TimeoutError:
        raise AssertionError(f"never closed; it sent {received[:1000]!r}") from None
    return received


def first_answer(received: bytes) -> tuple[int, bytes]:
    """Return the status of the first answer in these bytes, and what stands behind it."""
    head, _, rest = received.partition(b"\r\n\r\n")
    found = _STATUS.match(head)
    length = _LENGTH.search(head)
    assert found is not None, f"no answer: {received[:300]!r}"
    assert length is not None, f"an answer without a length: {head!r}"
    return int(found[1]), rest[int(length[1]) :]
