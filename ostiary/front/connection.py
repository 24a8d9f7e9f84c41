"""One client's connection: what lies between its socket and gunicorn's HTTP, so that nothing waits for it.

    socket ─► FrontConnection ─► TLS (memory) ─► gunicorn's protocol ─► Exchanges ─► application
           ◄─                 ◄─              ◄─ HTTPSide (its transport)

gunicorn 27's asgi worker gives a client all the time it likes: no deadline for a first head, none for a whole
body, none for reading an answer, no bound on connections; it echoes what it could not parse. So its protocol
never sees a socket. It sees an `HTTPSide`, and here is what decides how long and how much.

Rules:
- A phase (`ostiary.front.room`) says what the connection waits for, and for how long. Who is late gets 408
  where a request had begun, and is disconnected.
- What the client reads slowly stays as it is (a view of the application's bytes) and is encrypted piece by
  piece. A client that takes less than `_LEAST_PER_S` is disconnected.
- What gunicorn says by itself is replaced: a refusal becomes a problem document of the same status that
  quotes nothing.
- The last answer is followed by a half-close; what the client still sends is discarded until it closes too
  (RFC 9112 section 9.6): else the kernel would answer it with a reset, which can destroy the answer that a
  body was too large.
- A client that half-closes after its request still gets its answer.

One thread: the worker's loop.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from ostiary.edge.packet_socket import peer_of
from ostiary.edge.problems import raw_problem
from ostiary.front.peer import Peer, acting_for
from ostiary.front.room import Phase, Room
from ostiary.front.tls import RECORD_BYTES, FrontTLS, TLSConnection, TLSEnded, TLSError

if TYPE_CHECKING:
    from ostiary.front.http_side import HTTPSide

_log = logging.getLogger("ostiary.front")
_HEAD_END: Final = b"\r\n\r\n"
# What the kernel's buffer has not taken may grow to this before we stop handing over.
_HIGH_BYTES: Final = 64 << 10
_LEAST_PER_S: Final = 32 << 10
_MAX_LEAVE_BYTES: Final = 16 << 20
_CONTINUE: Final = b"HTTP/1.1 100"


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """What the connections of a worker share.

    `tls` is asked once for each connection, and returns the current settings; None serves plain connections.
    `serve` makes gunicorn's protocol for a connection and connects it to its `HTTPSide`.
    """

    room: Room[FrontConnection]
    tls: Callable[[], FrontTLS] | None
    max_head_bytes: int
    answer_s: float
    clock: Callable[[], float]
    serve: Callable[[FrontConnection], HTTPSide]


class FrontConnection(asyncio.Protocol):
    """See the module's docstring. It is the `ExchangeObserver` of its own exchanges."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._room = door.room
        self._socket_side: asyncio.Transport | None = None
        self._tls: TLSConnection | None = None
        self._http: HTTPSide | None = None
        self.peer: Peer | None = None
        # Of the head or body that is being received.
        self._tail = b""
        self._head_bytes = 0
        self._body_bytes = 0
        self._content_length: int | None = None
        self._is_chunked = False
        self._is_feeding = False
        self._is_answering = False
        self._has_refused = False
        # Of what is being sent.
        self._pending: deque[memoryview] = deque()
        self._pending_bytes = 0
        self._is_socket_full = False
        self._handed_over = 0
        self._delivered_before = 0
        # Of the end.
        self._client_ended = False
        self._is_closing = False
        self._discarded = 0

    # --- the socket's side: asyncio calls these ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._socket_side = side = cast("asyncio.Transport", transport)
        source, account, unix = _client_of(side)
        self.peer = Peer(source=source, unix=unix, cut=self._abort)
        side.set_write_buffer_limits(high=_HIGH_BYTES)
        must_go = self._room.enter(self, account, self._door.clock())
        if must_go is not None:
            must_go.make_room()
        if must_go is not self and self._door.tls is not None:
            self._tls = self._door.tls().accept()

    def data_received(self, data: bytes) -> None:
        if self._is_closing or self._socket_side is None:
            self._discarded += len(data)
            if self._discarded > _MAX_LEAVE_BYTES:
                self._abort()
            return
        tls = self._tls
        if tls is None:
            self._take(data)
            return
        was_established = tls.is_established
        try:
            plaintext = tls.receive(data)
        except TLSEnded as ended:
            self._send_raw(tls.to_send())
            self._take(ended.plaintext)
            self.eof_received()
            return
        except TLSError as error:
            self._refuse_tls(tls, error)
            return
        self._send_raw(tls.to_send())
        if tls.is_established and not was_established:
            self._meet(tls)
        self._take(plaintext)

    def eof_received(self) -> bool:
        """The client will send no more; keep the connection if it still has an answer to come."""
        self._client_ended = True
        if self._is_closing or self._socket_side is None:
            return False
        phase = self._room.phase(self)
        if phase is Phase.ASKING and not self._is_body_whole():
            self.refuse(400)
            self.leave()
        elif phase in {Phase.ARRIVING, Phase.IDLE}:
            self.leave()
        return True

    def pause_writing(self) -> None:
        self._is_socket_full = True

    def resume_writing(self) -> None:
        self._is_socket_full = False
        self._pump()

    def connection_lost(self, exc: Exception | None) -> None:
        self._room.leave(self)
        self._socket_side = None
        self._pending.clear()
        if self.peer is not None:
            self.peer.gone()
        if self._http is not None:
            self._http.lost(exc)

    # --- what arrives ---

    def _take(self, data: bytes) -> None:
        """Pass on what the client sent, noting whether a head is complete."""
        if not data or self._is_closing or self._socket_side is None:
            return
        phase = self._room.phase(self)
        if phase is Phase.IDLE or (phase is Phase.ANSWERING and not self._is_answering):
            self._room.move(self, Phase.ARRIVING, self._door.clock())
            phase = Phase.ARRIVING
        if phase is Phase.ARRIVING:
            if self._is_head_too_large(data):
                self.refuse(431)
                self.leave()
                return
        else:
            self._body_bytes += len(data)
            self._tail = data[-3:] if len(data) >= 3 else (self._tail + data)[-3:]
            if phase is Phase.ASKING and self._content_length is not None:
                self._note_body()
        if self._http is None:
            self._http = self._door.serve(self)
        self._is_feeding = True
        self._http.feed(data)
        self._is_feeding = False
        self._account()

    def _is_head_too_large(self, data: bytes) -> bool:
        """Look for the end of the head; return whether there is too much without one."""
        window = self._tail + data
        end = window.find(_HEAD_END)
        self._tail = window[-3:]
        if end < 0:
            self._head_bytes += len(data)
            return self._head_bytes > self._door.max_head_bytes
        self._body_bytes = len(window) - end - len(_HEAD_END)
        self._head_bytes = 0
        self._content_length, self._is_chunked = None, False
        self._room.move(self, Phase.ASKING, self._door.clock())
        return False

    def _is_body_whole(self) -> bool:
        if self._content_length is not None:
            return self._body_bytes >= self._content_length
        # The last chunk and the trailers end in an empty line (RFC 9112 section 7.1).
        return not self._is_chunked or self._tail.endswith(b"\n\r\n")

    def _note_body(self) -> None:
        if self._body_bytes >= (self._content_length or 0):
            self._room.move(self, Phase.WORKING, self._door.clock())

    # --- what the exchanges tell ---

    def request_taken(self, *, content_length: int | None, is_chunked: bool) -> None:
        """Gunicorn has parsed a head, and the application is about to see it."""
        if self._is_closing or self._socket_side is None:
            return
        self._content_length = None if is_chunked else (content_length or 0)
        self._is_chunked = is_chunked
        if self._content_length is not None and self._body_bytes >= self._content_length:
            self._room.move(self, Phase.WORKING, self._door.clock())
        elif self._client_ended and not self._is_body_whole():
            self.refuse(400)
            self.leave()
        elif self._room.phase(self) is not Phase.ASKING:
            self._room.move(self, Phase.ASKING, self._door.clock())

    def body_taken(self) -> None:
        """The application has the whole body."""
        if not self._is_closing and self._socket_side is not None and self._room.phase(self) is Phase.ASKING:
            self._room.move(self, Phase.WORKING, self._door.clock())

    def answer_begins(self) -> None:
        """What gunicorn writes from here on is the application's answer."""
        self._is_answering = True

    def answer_complete(self) -> None:
        """The answer was handed over; the next request may come."""
        self._is_answering = False
        if self._is_closing or self._socket_side is None:
            return
        # What was received beyond this request's body belongs to the next, and how it is framed is not known.
        self._body_bytes = max(0, self._body_bytes - (self._content_length or 0))
        self._move_on()
        if self._client_ended and not self._body_bytes:
            self.leave()

    # --- what leaves ---

    def write(self, data: bytes) -> None:
        """Send what gunicorn wrote for the application; anything else that it wrote is replaced."""
        if self._is_closing or self._socket_side is None or self._has_refused:
            return
        # The application never runs within `feed`: what is written there is gunicorn's own word.
        if not self._is_answering or self._is_feeding:
            self._write_own_words(data)
            return
        self._pending.append(memoryview(data))
        self._pending_bytes += len(data)
        self._pump()
        if self._pending and self._room.phase(self) is not Phase.ANSWERING:
            self._begin_delivery()
        self._account()

    def refuse(self, status: int) -> None:
        """Answer with a problem document that quotes nothing, unless an answer has begun."""
        if self._is_answering or self._has_refused or self._is_closing:
            return
        self._has_refused = True
        _log.info("request-refused", extra={"status": status, "source": self._source()})
        self._pending.append(memoryview(raw_problem(status)))
        self._pump()

    def leave(self) -> None:
        """Let what is to be sent leave, then half close; gunicorn has no part in the rest."""
        if self._is_closing or self._socket_side is None:
            return
        self._is_closing = True
        if self._http is not None:
            self._http.let_go()
        self._room.move(self, Phase.LEAVING, self._door.clock())
        self._delivered_before = self._delivered()
        self._pump()

    def _write_own_words(self, data: bytes) -> None:
        if data.startswith(_CONTINUE):
            self._pending.append(memoryview(data))
            self._pump()
        elif data.startswith(b"HTTP/1.") and data[9:12].isdigit():
            self.refuse(int(data[9:12]))

    def _pump(self) -> None:
        """Hand over what the kernel will take; half close behind the last of it."""
        side = self._socket_side
        if side is None:
            return
        pending, tls = self._pending, self._tls
        try:
            while pending and not self._is_socket_full:
                piece = pending[0]
                if len(piece) > RECORD_BYTES:
                    pending[0] = piece[RECORD_BYTES:]
                    piece = piece[:RECORD_BYTES]
                else:
                    pending.popleft()
                self._pending_bytes -= len(piece)
                self._send_raw(bytes(piece) if tls is None else tls.encrypt(piece))
        except TLSError:
            self._abort()
            return
        if self._http is not None:
            self._http.note_pending(len(pending))
        if not pending:
            self._pending_bytes = 0
            if self._is_closing:
                self._half_close(side)

    def _send_raw(self, data: bytes) -> None:
        if data and self._socket_side is not None:
            self._handed_over += len(data)
            self._socket_side.write(data)

    def _half_close(self, side: asyncio.Transport) -> None:
        if self._tls is not None and self._tls.is_established:
            self._send_raw(self._tls.close())
        if self._client_ended:
            side.close()
        elif side.can_write_eof() and not side.is_closing():
            side.write_eof()

    # --- time and room ---

    def expire(self) -> None:
        """The time of the phase is over."""
        if self._socket_side is None:
            return
        phase = self._room.phase(self)
        if phase in {Phase.ANSWERING, Phase.LEAVING}:
            self._check_delivery(phase)
        elif phase is Phase.WORKING or (phase is Phase.ARRIVING and not self._head_bytes):
            self._abort()
        else:
            if phase is not Phase.IDLE:
                self.refuse(408)
            self.leave()

    def make_room(self) -> None:
        """Another connection needs this one's place."""
        self._abort()

    def end_idle(self) -> None:
        """The worker stops: leave, unless a request is being served."""
        if self._socket_side is not None and self._room.phase(self) in {Phase.ARRIVING, Phase.IDLE}:
            self.leave()

    def _begin_delivery(self) -> None:
        self._delivered_before = self._delivered()
        self._room.move(self, Phase.ANSWERING, self._door.clock())

    def _move_on(self) -> None:
        if self._pending or self._unsent():
            if self._room.phase(self) is not Phase.ANSWERING:
                self._begin_delivery()
            return
        self._head_bytes = 0
        self._room.move(self, Phase.IDLE, self._door.clock())

    def _check_delivery(self, phase: Phase) -> None:
        """Give a client that takes its answer more time for the rest, and nobody else."""
        has_left = not self._pending and not self._unsent()
        if phase is Phase.ANSWERING and has_left and not self._is_answering:
            self._room.move(self, Phase.IDLE, self._door.clock())
            return
        delivered = self._delivered()
        if has_left or delivered - self._delivered_before < _LEAST_PER_S * self._door.answer_s:
            self._abort()
            return
        self._delivered_before = delivered
        self._room.move(self, phase, self._door.clock())

    def _account(self) -> None:
        if self._socket_side is None or self._is_closing:
            return
        received = self._head_bytes + (self._body_bytes if self._room.phase(self) is Phase.ASKING else 0)
        must_go = self._room.hold(self, received + self._pending_bytes)
        if must_go is not None:
            must_go.make_room()

    def _unsent(self) -> int:
        return 0 if self._socket_side is None else self._socket_side.get_write_buffer_size()

    def _delivered(self) -> int:
        return self._handed_over - self._unsent()

    # --- TLS ---

    def _meet(self, tls: TLSConnection) -> None:
        shown = tls.client_certificate()
        if shown is not None and self.peer is not None:
            self.peer.present(*shown)

    def _refuse_tls(self, tls: TLSConnection, error: TLSError) -> None:
        if error.is_for_no_certificate:
            # No HTTP yet to answer in: the client gets the alert certificate_required, the log the reason.
            _log.info("client-certificate-refused", extra={"reason": "missing", "source": self._source()})
        self._send_raw(tls.to_send())
        if self._socket_side is not None:
            self._socket_side.close()

    def _source(self) -> str:
        return "" if self.peer is None else self.peer.source

    def _abort(self) -> None:
        """End the connection now; its place is free at once, although asyncio reports the end later."""
        side, self._socket_side = self._socket_side, None
        if side is not None:
            self._room.leave(self)
            side.abort()

    # --- for the HTTP side ---

    def extra_info(self, name: str) -> Any:
        """What gunicorn asks of its transport: addresses, and whether there is TLS (`ssl_object`)."""
        if name == "ssl_object":
            return self._tls
        return None if self._socket_side is None else self._socket_side.get_extra_info(name)

    def pause_reading(self) -> None:
        if self._socket_side is not None and not self._is_closing:
            self._socket_side.pause_reading()

    def resume_reading(self) -> None:
        if self._socket_side is not None and not self._is_closing:
            self._socket_side.resume_reading()

    def connect_http(self, protocol: asyncio.Protocol, side: HTTPSide) -> None:
        """Begin HTTP: the tasks that gunicorn makes for this connection know its peer."""
        if self.peer is None:
            raise AssertionError("HTTP before the connection")
        with acting_for(self.peer):
            protocol.connection_made(side)


def _client_of(side: asyncio.Transport) -> tuple[str, str, socket.socket | None]:
    """Return a client's IP address, whose account it goes on, and its socket if that is a UNIX one."""
    sock = side.get_extra_info("socket")
    if sock.family == socket.AF_UNIX:
        return "", f"uid {peer_of(sock).uid}", sock
    address = side.get_extra_info("peername")
    source = str(address[0]) if address else ""
    return source, source, None
