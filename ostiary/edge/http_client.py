"""A small keep-alive HTTP client for our own parts (command line, manager, services), over TLS or a UNIX
socket.

Rules:
- It connects to an address and verifies a name: whoever redirects the address fails in the handshake.
- TCP_NODELAY always. The client notices that the server closed an idle connection before it uses it.
- A request is sent once. It is sent again, on a new connection, only if the old one failed before a byte of
  the response came and the method is safe (RFC 9110 section 9.2.1); any other failure is `Busy`.
- A problem document becomes the `OstiaryError` it was made of; the caller respects `Busy.retry_after_s`.
- A truncated response is `Busy`, never a shorter response. Responses have a size limit.
- A client belongs to one thread; only `abort` is for others.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import select
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol, Self, TypeVar

import msgspec

from ostiary.edge.packet_socket import check_path
from ostiary.edge.problems import PROBLEM_TYPE, PROBLEM_URN, Problem
from ostiary.errors import (
    BadInput,
    Busy,
    Conflict,
    Forbidden,
    InternalFault,
    Misconfigured,
    NotFound,
    OstiaryError,
    Unauthenticated,
)

T = TypeVar("T")

# RFC 9110 section 9.2.1, without TRACE. A POST may have been acted on although its response was lost.
_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
# No server of ours asks for more; a larger number would put a caller to sleep for good.
_MAX_RETRY_AFTER_S: Final = 3600
_PLAIN_ERRORS: Final[Mapping[str, type[OstiaryError]]] = {
    "bad-input": BadInput,
    "unauthenticated": Unauthenticated,
    "not-found": NotFound,
    "conflict": Conflict,
    "misconfigured": Misconfigured,
}
_ERROR_OF_STATUS: Final[Mapping[int, type[OstiaryError]]] = {
    401: Unauthenticated,
    404: NotFound,
    409: Conflict,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """A response; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


class Connector(Protocol):
    """Makes a connected socket whose operations time out; an `OSError` becomes an `OstiaryError`."""

    def __call__(self) -> socket.socket: ...


def tls_connector(
    address: tuple[str, int], *, server_name: str, context: Callable[[], ssl.SSLContext], timeout_s: float
) -> Connector:
    """Connect to `address` and verify `server_name`; each connection calls `context`, which may rotate."""

    def connect() -> socket.socket:
        sock = socket.create_connection(address, timeout=timeout_s)
        try:
            # http.client writes head and body apart: with Nagle's algorithm the second write would wait for
            # the ACK of the first, which the server delays by up to 40 ms.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return context().wrap_socket(sock, server_hostname=server_name)
        except BaseException:
            sock.close()
            raise

    return connect


def tcp_connector(address: tuple[str, int], *, timeout_s: float) -> Connector:
    """Plain HTTP, for status services only: OCSP responses and CRLs carry their own signatures."""

    def connect() -> socket.socket:
        sock = socket.create_connection(address, timeout=timeout_s)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    return connect


def unix_connector(path: Path, *, timeout_s: float) -> Connector:
    """Connect to a UNIX socket."""
    check_path(path)

    def connect() -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(timeout_s)
            sock.connect(os.fspath(path))
        except BaseException:
            sock.close()
            raise
        return sock

    return connect


class HTTPClient:
    """Requests to one server, over one connection at a time."""

    def __init__(self, connect: Connector, *, host: str, limit_bytes: int = 16 << 20) -> None:
        self._connect = connect
        self._host = host
        self._limit_bytes = limit_bytes
        self._connection: _Connection | None = None
        self._aborted = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; the next request opens a new one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def abort(self) -> None:
        """End the call that another thread waits in, and every later one: they are Busy.

        One that is still connecting ends when it has connected.
        """
        self._aborted = True
        sock = self._connection.sock if self._connection is not None else None
        if sock is not None:
            with contextlib.suppress(OSError):
                # Not SSLSocket's own: that takes the TLS state from under the other thread's read.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def peer_certificate(self) -> bytes | None:
        """The server's certificate (DER) on the open connection; its TLS context has verified it."""
        sock = self._connection.sock if self._connection is not None else None
        return sock.getpeercert(True) if isinstance(sock, ssl.SSLSocket) else None

    def request(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        content_type: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """Send one request and return its response; an error status raises its `OstiaryError`."""
        sent = dict(headers or {})
        if content_type is not None:
            sent["Content-Type"] = content_type
        response = self._exchange(method, path, body, sent)
        if response.status >= 400:
            raise error_of(response)
        return response

    def call(self, method: str, path: str, value: object = None, *, type_: type[T]) -> T:
        """Send one request and return its JSON response as `type_`, which should allow unknown members."""
        body = None if value is None else msgspec.json.encode(value)
        content_type = None if value is None else "application/json"
        response = self.request(method, path, body=body, content_type=content_type)
        try:
            return msgspec.json.decode(response.body, type=type_)
        except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
            raise InternalFault(f"malformed response of '{self._host}' to '{path}'") from exc

    def _exchange(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Response:
        # Only a connection that already served a request can fail because the server had just closed it; a
        # fresh one that fails will fail again.
        reused = self._connection is not None and not self._connection.stale()
        try:
            return self._exchange_once(method, path, body, headers)
        except (http.client.RemoteDisconnected, ConnectionError) as exc:
            self.close()
            if not (reused and method in _SAFE_METHODS):
                raise self._lost(exc) from exc
        except (OSError, http.client.HTTPException) as exc:
            self.close()
            raise self._lost(exc) from exc
        try:
            return self._exchange_once(method, path, body, headers)
        except (OSError, http.client.HTTPException) as exc:
            self.close()
            raise self._lost(exc) from exc

    def _exchange_once(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Response:
        connection = self._open()
        try:
            connection.request(method, path, body=body, headers=headers)
        except (ConnectionError, ssl.SSLEOFError):
            connection.raise_alert()
            raise
        raw = connection.getresponse()
        content = raw.read(self._limit_bytes + 1)
        if len(content) > self._limit_bytes:
            self.close()
            raise InternalFault(f"response of '{self._host}' is longer than {self._limit_bytes} bytes")
        if raw.length:
            # http.client's read(n) returns what there is when the connection ends; only read() would raise.
            raise http.client.IncompleteRead(content, raw.length)
        if raw.will_close:
            self.close()
        received = {name.lower(): value for name, value in raw.getheaders()}
        return Response(status=raw.status, headers=received, body=content)

    def _open(self) -> _Connection:
        if self._connection is not None and self._connection.stale():
            self.close()
        if self._connection is None:
            self._connection = _Connection(self._connect(), self._host)
        # After connecting: whoever aborts sees the connection, or is seen here.
        if self._aborted:
            self.close()
            raise Busy(f"the client of '{self._host}' was stopped")
        return self._connection

    def _lost(self, exc: Exception) -> OstiaryError:
        if isinstance(exc, ssl.SSLCertVerificationError):
            return Forbidden(
                f"certificate of '{self._host}' does not verify: {exc.verify_message}",
                rule="server-certificate",
            )
        if isinstance(exc, ssl.SSLError) and not isinstance(exc, ssl.SSLEOFError):
            # In TLS 1.3 the server judges the client's certificate after the client's handshake has ended
            # (RFC 8446 section 2), so its alert arrives at the first read.
            return Unauthenticated(f"'{self._host}' aborted TLS: {exc.reason}")
        if isinstance(exc, TimeoutError):
            return Busy(f"'{self._host}' did not answer in time")
        reason = getattr(exc, "strerror", None) or type(exc).__name__
        return Busy(f"no response from '{self._host}': {reason}")


class _Connection(http.client.HTTPConnection):
    """http.client's connection on a socket that is already connected."""

    def __init__(self, sock: socket.socket, host: str) -> None:
        super().__init__(host)
        self.sock: Any = sock
        # Else http.client would reconnect by itself, to the Host header's name and without TLS.
        self.auto_open = 0

    def raise_alert(self) -> None:
        """Raise the TLS alert that the server sent before it closed, if there is one.

        It closed while we were still writing, so the write failed first; in TLS 1.3 the verdict on our
        certificate comes that late.
        """
        if isinstance(self.sock, ssl.SSLSocket):
            with contextlib.suppress(ssl.SSLEOFError, ConnectionError, TimeoutError):
                self.sock.recv(1)

    def stale(self) -> bool:
        """Return whether the server closed the idle connection, or sent something that nobody asked for."""
        # Readable while idle means EOF, or bytes that belong to no request; either way the connection is
        # lost. A front's TLS 1.3 tickets precede its first response, whose reading consumes them.
        if self.sock is None:
            return True
        with contextlib.suppress(OSError, ValueError):
            poll = select.poll()
            poll.register(self.sock, select.POLLIN)
            return bool(poll.poll(0))
        return True


def error_of(response: Response) -> OstiaryError:
    """Return the error that a response of status ≥ 400 stands for."""
    return error_of_problem(
        _problem_in(response), status=response.status, retry_after_s=_retry_after_s(response)
    )


def error_of_problem(problem: Problem, *, status: int, retry_after_s: int) -> OstiaryError:
    """Return the error that a problem document stands for."""
    # The problem type first, as it is the contract; the status for what a proxy or gunicorn answered itself.
    kind = problem.type.removeprefix(PROBLEM_URN)
    message = problem.detail or problem.title or f"status {status}"
    if kind == "forbidden" or status == 403:
        return Forbidden(message, rule=problem.rule or "unknown", field=problem.field)
    if kind == "busy" or status in {429, 503}:
        return Busy(message, retry_after_s=retry_after_s)
    if kind in _PLAIN_ERRORS:
        return _PLAIN_ERRORS[kind](message, field=problem.field)
    if status >= 500:
        return InternalFault(f"the server failed ({status}) {problem.instance}".rstrip())
    return _ERROR_OF_STATUS.get(status, BadInput)(message, field=problem.field)


def _problem_in(response: Response) -> Problem:
    if response.headers.get("content-type", "").partition(";")[0].strip() == PROBLEM_TYPE:
        with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError):
            return msgspec.json.decode(response.body, type=Problem)
    return Problem(type="about:blank", title="", status=response.status)


def _retry_after_s(response: Response) -> int:
    text = response.headers.get("retry-after", "")
    return min(int(text), _MAX_RETRY_AFTER_S) if text.isascii() and text.isdigit() else 1
