"""A gunicorn thread worker that no unauthenticated client can starve.

gunicorn 27's gthread gives a thread to every connection that has sent a byte, for as long as its handshake
and its headers take: with two threads, two clients that sent one byte each blocked all service. Here the
poller waits instead. A thread is lent only to a handshake message or a read that is already there, and to a
request whose head is complete.

Rules:
- accept -> [readable -> one step of the handshake] -> [readable -> what there is of the head] -> thread ->
  response.
- Handshake and first head must end `head_s` after accept, a later head `head_s` after its first byte.
- When the worker is full, the oldest connection without a complete head is dropped.
- After a response a thread stays with its connection for `_LINGER_MS`, unless another connection waits for a
  thread: a client that sends request after request is served without three hand-overs for each.
- A thread handles body and response under the deadline of `ostiary.front.guarded_socket`.
- After its last response a connection is half closed. What the client still sends is discarded until it
  closes too, for at most `_LEAVE_S` (RFC 9112 section 9.6): else the kernel would answer it with a reset,
  which can destroy the response that a body was too large. The poller waits for that, no thread does.
- A client's bytes are never echoed or logged: a malformed request gets a problem document of its kind.

It overrides methods of `gunicorn.workers.gthread` that gunicorn does not promise to keep; gunicorn's major
version is pinned, and tests/integration/test_front.py tests what each override is for.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import select
import selectors
import socket
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from gunicorn import http
from gunicorn.http import errors as parsing
from gunicorn.workers.gthread import TConn, ThreadWorker

from ostiary.edge.problems import raw_problem
from ostiary.edge.role import announce_ready, die_with_parent
from ostiary.front.guarded_socket import GuardedSocket
from ostiary.front.tls import FrontTLS, TLSSocket

_log = logging.getLogger("ostiary.front")
_HEAD_END: Final = b"\r\n\r\n"
_READ_BYTES: Final = 16 << 10
_LEAVE_S: Final = 2.0
# Of one event: the poller has other connections to serve.
_LEAVE_READS: Final = 8
_MAX_LEAVE_BYTES: Final = 16 << 20
# A thread that waits serves nobody else; a local client's next request comes well within this time.
_LINGER_MS: Final = 2
# A connection that never pauses returns to the poller now and then, so that a sweep or a stop reaches it.
_MAX_LINGERED: Final = 64
_SWEEP_S: Final = 0.25
# What `handle` returns for a connection that must wait for its client.
_WAIT: Final = object()

_STATUS_OF: Final[tuple[tuple[type[Exception], int], ...]] = (
    (parsing.LimitRequestLine, 414),
    (parsing.LimitRequestHeaders, 431),
    (parsing.UnsupportedTransferCoding, 501),
    (parsing.ExpectationFailed, 417),
    (parsing.ParseException, 400),
    (TimeoutError, 408),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings:
    """What the workers inherit from the arbiter over fork."""

    tls: Callable[[], FrontTLS] | None
    head_s: float
    max_head_bytes: int
    exchange_s: float


class FrontConnection(TConn):  # type: ignore[misc] # gunicorn has no types
    """One client; `sock` is a `GuardedSocket`, and a `TLSSocket` once the handshake has begun."""

    sock: GuardedSocket | TLSSocket
    parser: Any
    initialized: bool

    def __init__(
        self, cfg: Any, sock: socket.socket, client: Any, server: Any, settings: WorkerSettings
    ) -> None:
        guarded = GuardedSocket.adopt(sock, exchange_s=settings.exchange_s)
        super().__init__(cfg, guarded, client, server)
        self.data_ready = True
        self._settings = settings
        self.is_leaving = False
        self._discarded = 0
        self.head_deadline = 0.0
        self.expect_head()

    def expect_head(self) -> None:
        """Start the clock of the next request's head."""
        self.head_deadline = time.monotonic() + self._settings.head_s

    def init(self) -> None:
        """Make the parser; `advance` has already wrapped the socket."""
        if not self.initialized:
            self.initialized = True
            self.parser = http.get_parser(self.cfg, self.sock, self.client)

    def advance(self) -> bool:
        """Go as far as the bytes at hand allow; return whether a whole head is there.

        `OSError` if the client is gone.
        """
        if self._settings.tls is not None and isinstance(self.sock, GuardedSocket):
            self.sock = self._settings.tls().accept(self.sock, exchange_s=self._settings.exchange_s)
        self.sock.setblocking(False)
        try:
            self.sock.do_handshake()
            self.init()
            self._gather_head()
        except BlockingIOError:
            return False
        return True

    def _gather_head(self) -> None:
        """Move bytes from the socket to the parser's buffer until they contain a whole head.

        `LimitRequestHeaders` if it is too long, BlockingIOError if the client has sent no more.
        """
        unreader = self.parser.unreader
        head = bytearray(unreader.take_buffered())
        try:
            while _HEAD_END not in head:
                if len(head) > self._settings.max_head_bytes:
                    raise parsing.LimitRequestHeaders("head too large")
                chunk = self.sock.recv(_READ_BYTES)
                if not chunk:
                    raise ConnectionResetError("closed by the client")
                head += chunk
        finally:
            unreader.unread(bytes(head))

    def keep_read_ahead(self) -> None:
        """Move bytes that TLS has decrypted to the parser: they no longer make the socket readable."""
        pending = self.sock.pending()
        if pending:
            unreader = self.parser.unreader
            unreader.unread(unreader.take_buffered() + self.sock.recv(pending))

    def take_leave(self) -> bool:
        """Half close the connection; return whether the client may still send."""
        self.is_leaving = True
        self.head_deadline = time.monotonic() + _LEAVE_S
        try:
            self.sock.setblocking(False)
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            return False
        return self.discard()

    def discard(self) -> bool:
        """Discard what is there; return whether more may come."""
        try:
            for _ in range(_LEAVE_READS):
                discarded = self.sock.discard(_READ_BYTES)
                self._discarded += discarded
                if not discarded or self._discarded > _MAX_LEAVE_BYTES:
                    return False
        except BlockingIOError:
            return True
        except OSError:
            return False
        return True

    def close(self, graceful: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002 - gunicorn's signature
        """Close at once."""
        with contextlib.suppress(OSError):
            self.sock.close()


class FrontWorker(ThreadWorker):  # type: ignore[misc] # gunicorn has no types
    """The worker. `run_front` sets `settings` before the first fork."""

    settings: ClassVar[WorkerSettings]
    _next_sweep = 0.0

    def load_wsgi(self) -> None:
        # gunicorn may have changed the user since post_fork, and that clears the setting (prctl(2),
        # PR_SET_PDEATHSIG).
        die_with_parent(self.ppid)
        super().load_wsgi()

    def run(self) -> None:
        announce_ready()
        super().run()

    def accept(self, listener: socket.socket) -> None:
        try:
            sock, client = listener.accept()
        except OSError:
            # Another worker was faster, the client left, or no descriptor is free: the poller will ask again.
            return
        if self.nr_conns + 1 >= self.worker_connections:
            self._make_room()
        self.nr_conns += 1
        self._park(FrontConnection(self.cfg, sock, client, listener.getsockname(), self.settings))

    def on_client_socket_readable(self, conn: FrontConnection, client: socket.socket) -> None:
        conn.expect_head()
        super().on_client_socket_readable(conn, client)

    def on_pending_socket_readable(self, conn: FrontConnection, client: socket.socket) -> None:
        """Advance a connection, unless it was dropped earlier in this round of the poller."""
        # The event of a dropped connection is stale, and its descriptor's number may be another's by now.
        if conn not in self.pending_conns:
            return
        if not conn.is_leaving:
            super().on_pending_socket_readable(conn, client)
        elif not conn.discard():
            self._drop(conn)

    def handle(self, conn: FrontConnection) -> object:
        """In a thread: serve the request whose head is there, and those that follow immediately."""
        outcome = self._serve(conn)
        for _ in range(_MAX_LINGERED):
            if outcome is not True or not self._another_follows(conn):
                break
            outcome = self._serve(conn)
        return outcome

    def _another_follows(self, conn: FrontConnection) -> bool:
        """Wait a moment for the connection's next request, unless another connection needs this thread."""
        # ThreadPoolExecutor does not publish how many tasks wait.
        waiting = self.tpool._work_queue.qsize()  # noqa: SLF001
        if not self.alive or waiting or conn.parser.unreader.buf.getvalue():
            return False
        poll = select.poll()
        poll.register(conn.sock, select.POLLIN)
        return bool(poll.poll(_LINGER_MS))

    def _serve(self, conn: FrontConnection) -> object:
        """Advance the connection, and serve its request once the head is there."""
        try:
            if not conn.advance():
                return _WAIT
        except parsing.LimitRequestHeaders as exc:
            self.handle_error(None, conn.sock, conn.client, exc)
            return False
        except (OSError, ValueError):  # no TLS, a certificate is missing, or the client is gone
            return False
        keep = super().handle(conn)
        try:
            conn.sock.flush()
            if keep is True:
                conn.expect_head()
                conn.keep_read_ahead()
        except OSError:
            return False
        return keep

    def finish_request(self, conn: FrontConnection, fs: Future[object]) -> None:
        outcome = None if fs.cancelled() or fs.exception() is not None else fs.result()
        if outcome is True:
            super().finish_request(conn, fs)
            return
        waits = time.monotonic() < conn.head_deadline if outcome is _WAIT else conn.take_leave()
        if waits and self.alive:
            self._park(conn)
            # It filled up while threads had all that waited; gunicorn accepts again when one of them goes.
            if self.nr_conns >= self.worker_connections:
                self._make_room()
        else:
            self.nr_conns -= 1
            conn.close()

    def murder_pending(self) -> None:
        """Drop connections that did not complete a head, or close, in time."""
        now = time.monotonic()
        if now < self._next_sweep:
            return
        self._next_sweep = now + _SWEEP_S
        for conn in [conn for conn in self.pending_conns if conn.head_deadline <= now or not self.alive]:
            self._drop(conn)

    def handle_error(
        self,
        req: Any,  # noqa: ARG002 - gunicorn's signature
        client: GuardedSocket | TLSSocket,
        addr: Any,  # noqa: ARG002 - gunicorn's signature
        exc: Exception,
    ) -> None:
        """Answer what is not HTTP, or an error that the application let through, without quoting it."""
        status = next((status for kind, status in _STATUS_OF if isinstance(exc, kind)), 500)
        # The text of a parsing error quotes the client; its type is enough.
        level = logging.ERROR if status == 500 else logging.INFO
        _log.log(level, "request refused", extra={"error": type(exc).__name__, "status": status})
        with contextlib.suppress(OSError):
            client.setblocking(False)
            client.send(raw_problem(status))

    def _park(self, conn: FrontConnection) -> None:
        self.pending_conns.append(conn)
        on_readable = functools.partial(self.on_pending_socket_readable, conn)
        self.poller.register(conn.sock, selectors.EVENT_READ, on_readable)

    def _make_room(self) -> None:
        """Drop the connection that has been without a complete head for longest, if any waits."""
        oldest = min(self.pending_conns, key=lambda conn: conn.head_deadline, default=None)
        if oldest is not None:
            self._drop(oldest)

    def _drop(self, conn: FrontConnection) -> None:
        self.pending_conns.remove(conn)
        with contextlib.suppress(OSError, KeyError, ValueError):
            self.poller.unregister(conn.sock)
        self.nr_conns -= 1
        conn.close()
