"""One client's connection: what lies between its socket and gunicorn's HTTP, so that nothing waits for it.

    socket ─► FrontConnection ─► TLS (memory) ─► gunicorn's protocol ─► Exchanges ─► application
           ◄─                 ◄─              ◄─ HTTPSide (its transport)

gunicorn 27's asgi worker gives a client all the time it likes: no deadline for a first head, none for a whole
body, none for reading an answer, no bound on connections; it echoes what it could not parse. So its protocol
never sees a socket. It sees an `HTTPSide`, and here is what decides how long and how much.

Rules:
- A phase (`ostiary.front.room`) says what the connection waits for, and for how long. Who is late gets 408
  where a request had begun, and is disconnected.
- What the client reads slowly waits in `ostiary.front.outflow`. A client that takes less than `_LEAST_PER_S`
  bytes a second is disconnected.
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
from typing import TYPE_CHECKING, Any, Final, cast

from ostiary.edge.problems import raw_problem
from ostiary.front.door import Door
from ostiary.front.head import RefusedRequest
from ostiary.front.outflow import Outflow
from ostiary.front.pausing import Pausing
from ostiary.front.peer import Peer, peer_at
from ostiary.front.request_stream import RequestStream
from ostiary.front.room import Phase
from ostiary.front.tls import TLSConnection, TLSEnded, TLSError

if TYPE_CHECKING:
    from ostiary.front.http_side import HTTPSide

_log = logging.getLogger("ostiary.front")
_LEAST_PER_S: Final = 32 << 10
# Of later requests, while one is answered.
_MAX_AHEAD_BYTES: Final = 64 << 10
_MAX_LEAVE_BYTES: Final = 16 << 20
# As long as a front waits for its recorder.
_CUT_S: Final = 1.0
_CONTINUE: Final = b"HTTP/1.1 100"


class FrontConnection(asyncio.Protocol):
    """See the module's docstring. It is the `ExchangeObserver` of its own exchanges."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._room = door.room
        # None before the connection begins and once it has ended.
        self._socket_side: asyncio.Transport | None = None
        self._out: Outflow | None = None
        self._tls: TLSConnection | None = None
        self._http: HTTPSide | None = None
        self.peer: Peer | None = None
        self._in = RequestStream(max_head_bytes=door.max_head_bytes, max_line_bytes=door.max_line_bytes)
        self.pausing = Pausing()
        self._is_feeding = self._has_refused = False
        self._is_answering = self._is_answered = False
        # Of the end.
        self._client_ended = False
        self._is_closing = self._is_cut = False
        self._discarded = 0

    # --- the socket's side: asyncio calls these ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._socket_side = side = cast("asyncio.Transport", transport)
        self.peer = peer_at(side, cut=self.cut)
        if self._door.tls is not None:
            self._tls = self._door.tls().accept()
        self._out = Outflow(side, self._tls)
        self.pausing.begin(side)
        must_go = self._room.enter(self, self.peer.account, self._door.clock())
        if must_go is not None:
            must_go.end_now()

    def data_received(self, data: bytes) -> None:
        if self._is_closing or self._socket_side is None:
            self._discarded += len(data)
            if self._discarded > _MAX_LEAVE_BYTES:
                self.end_now()
            return
        tls = self._tls
        if tls is None:
            self._take(data)
            return
        was_established = tls.is_established
        try:
            plaintext = tls.receive(data)
        except TLSEnded as ended:
            self._send(tls.to_send())
            self._take(ended.plaintext)
            self.eof_received()
            return
        except TLSError as error:
            self._refuse_tls(tls, error)
            return
        self._send(tls.to_send())
        if tls.is_established and not was_established:
            self._meet(tls)
        self._take(plaintext)

    def eof_received(self) -> bool:
        """The client will send no more; keep the connection if it still has an answer to come."""
        self._client_ended = True
        if self._is_closing or self._socket_side is None:
            return False
        phase = self._room.phase(self)
        if phase is Phase.ASKING:
            self.refuse(400)
            self.leave()
        elif phase in {Phase.ARRIVING, Phase.IDLE}:
            self.leave()
        return True

    def pause_writing(self) -> None:
        if self._out is not None:
            self._out.is_blocked = True

    def resume_writing(self) -> None:
        if self._out is not None:
            self._out.is_blocked = False
            self._pump()

    def connection_lost(self, exc: Exception | None) -> None:
        self._room.leave(self)
        self._socket_side = None
        if self._out is not None:
            self._out.drop()
        if self.peer is not None:
            self.peer.gone()
        if self._http is not None:
            self._http.lost(exc)

    # --- what arrives ---

    def _take(self, data: bytes) -> None:
        """Pass on what the client sent, as far as it is a request that is in order."""
        if not data or self._is_closing or self._socket_side is None:
            return
        phase = self._room.phase(self)
        if phase is Phase.IDLE or (phase is Phase.ANSWERING and self._in.is_in_head):
            self._room.move(self, Phase.ARRIVING, self._door.clock())
        try:
            passed_on = self._in.take(data)
        except RefusedRequest as refused:
            self._refuse_request(refused)
        else:
            self._pass_on(passed_on)

    def _pass_on(self, data: bytes) -> None:
        self.pausing.set("ahead", is_paused=self._in.ahead_bytes > _MAX_AHEAD_BYTES)
        if data:
            self._note_progress()
            if self._http is None:
                self._http = self._door.serve(self)
            self._is_feeding = True
            self._http.feed(data)
            self._is_feeding = False
        if self._is_answered and self._in.is_whole:
            self._begin_next_soon()
        self._account()

    def _begin_next_soon(self) -> None:
        # Not at once: gunicorn is in the middle of this exchange.
        self._is_answered = False
        asyncio.get_running_loop().call_soon(self._begin_next)

    def _begin_next(self) -> None:
        """The request was answered: begin with what was sent ahead, if anything was."""
        if self._is_closing or self._socket_side is None:
            return
        if self._is_cut:
            self.leave()
            return
        if self._tls is not None:
            self._tls.begin_request()
        try:
            passed_on = self._in.end_exchange()
        except RefusedRequest as refused:
            self._refuse_request(refused)
            return
        if self._client_ended and not self._in.is_whole:
            self.leave()
        elif self._in.held_bytes:
            self._room.move(self, Phase.ARRIVING, self._door.clock())
            self._pass_on(passed_on)
        else:
            self._move_on()
            self._account()

    def _note_progress(self) -> None:
        """Enter the phase that fits what of the request has come; an answer may have begun before its end."""
        phase = self._room.phase(self)
        if self._in.is_whole and phase in {Phase.ARRIVING, Phase.ASKING}:
            self._room.move(self, Phase.WORKING, self._door.clock())
        elif phase is Phase.ARRIVING:
            self._room.move(self, Phase.ASKING, self._door.clock())

    def _refuse_request(self, refused: RefusedRequest) -> None:
        self.refuse(refused.status)
        self.leave()

    # --- what the exchanges tell ---

    def answer_begins(self) -> None:
        """What gunicorn writes from here on is the application's answer."""
        self._is_answering = True

    def answer_complete(self) -> None:
        """The answer was handed over; the next request may come."""
        self._is_answering = False
        if self._is_closing or self._socket_side is None:
            return
        # One that was answered before its end was seen ends with its body, or with the connection.
        self._is_answered = True
        if self._is_cut:
            self.leave()
        elif self._in.is_whole:
            self._begin_next_soon()

    # --- what leaves ---

    def write(self, data: bytes) -> None:
        """Send what gunicorn wrote for the application; anything else that it wrote is replaced."""
        if self._is_closing or self._socket_side is None or self._has_refused:
            return
        # The application never runs within `feed`: what is written there is gunicorn's own word.
        if not self._is_answering or self._is_feeding:
            self._write_own_words(data)
            return
        self._add(data)
        if self._out is not None and self._out.waits:
            self._wait_for_reader()
        self._account()

    def refuse(self, status: int) -> None:
        """Answer with a problem document that quotes nothing, unless an answer has begun."""
        if self._is_answering or self._has_refused or self._is_closing:
            return
        self._has_refused = True
        _log.info("request-refused", extra={"status": status, "source": self._source()})
        self._add(raw_problem(status))

    def leave(self) -> None:
        """Let what is to be sent leave, then half close; gunicorn has no part in the rest."""
        if self._is_closing or self._socket_side is None:
            return
        self._is_closing = True
        if self._http is not None:
            self._http.let_go()
        self._room.move(self, Phase.LEAVING, self._door.clock())
        # The client's own end must be seen.
        self.pausing.end()
        if self._out is not None:
            self._out.begin_delivery()
            self._pump()

    def _write_own_words(self, data: bytes) -> None:
        if data.startswith(_CONTINUE):
            self._add(data)
        elif data.startswith(b"HTTP/1.") and data[9:12].isdigit():
            self.refuse(int(data[9:12]))

    def _add(self, data: bytes) -> None:
        if self._out is not None:
            self._out.add(data)
            self._pump()

    def _pump(self) -> None:
        """Hand over what the kernel will take; half close behind the last of it."""
        side, out = self._socket_side, self._out
        if side is None or out is None:
            return
        try:
            out.pump()
        except TLSError:
            self.end_now()
            return
        if self._http is not None:
            self._http.note_waiting(is_waiting=out.waits)
        if self._is_closing and not out.waits:
            out.end()
            if self._client_ended:
                side.close()

    def _send(self, ciphertext: bytes) -> None:
        if self._out is not None and self._socket_side is not None:
            self._out.send(ciphertext)

    # --- time and room ---

    def expire(self) -> None:
        """The time of the phase is over."""
        if self._socket_side is None:
            return
        phase = self._room.phase(self)
        if phase in {Phase.ANSWERING, Phase.LEAVING}:
            self._check_delivery(phase)
        elif phase is Phase.WORKING or (phase is Phase.ARRIVING and not self._in.held_bytes):
            self.end_now()
        else:
            if phase is not Phase.IDLE:
                self.refuse(408)
            self.leave()

    def end_now(self) -> None:
        """End the connection now; its place is free at once, although asyncio reports the end later."""
        side, self._socket_side = self._socket_side, None
        if side is not None:
            self._room.leave(self)
            side.abort()

    def cut(self) -> None:
        """The peer was revoked: end now, or behind the answer that is being made, which has `_CUT_S`."""
        # Who revokes itself is told so before the feed, which is quick, ends its connection.
        if self._socket_side is not None and self._room.phase(self) is Phase.WORKING:
            self._is_cut = True
            asyncio.get_running_loop().call_later(_CUT_S, self.end_now)
        else:
            self.end_now()

    def end_idle(self) -> None:
        """The worker stops: leave, unless a request is being served."""
        if self._socket_side is not None and self._room.phase(self) in {Phase.ARRIVING, Phase.IDLE}:
            self.leave()

    def _wait_for_reader(self) -> None:
        if self._socket_side is None or self._room.phase(self) is Phase.ANSWERING:
            return
        if self._out is not None:
            self._out.begin_delivery()
        self._room.move(self, Phase.ANSWERING, self._door.clock())

    def _move_on(self) -> None:
        if not self._waiting_bytes():
            self._room.move(self, Phase.IDLE, self._door.clock())
        else:
            self._wait_for_reader()

    def _check_delivery(self, phase: Phase) -> None:
        """Give a client that takes its answer more time for the rest, and nobody else."""
        has_left = not self._waiting_bytes()
        if phase is Phase.ANSWERING and has_left and not self._is_answering:
            self._move_on()
        elif (
            has_left or self._out is None or self._out.delivered_bytes() < _LEAST_PER_S * self._door.answer_s
        ):
            self.end_now()
            return
        else:
            self._room.move(self, phase, self._door.clock())
        self._account()

    def _account(self) -> None:
        if self._socket_side is None or self._is_closing:
            return
        must_go = self._room.hold(self, self._in.held_bytes + self._waiting_bytes())
        if must_go is not None:
            must_go.end_now()

    def _waiting_bytes(self) -> int:
        return 0 if self._out is None or self._socket_side is None else self._out.waiting_bytes

    # --- TLS ---

    def _meet(self, tls: TLSConnection) -> None:
        shown = tls.client_certificate()
        if shown is not None and self.peer is not None:
            self.peer.present(*shown)

    def _refuse_tls(self, tls: TLSConnection, error: TLSError) -> None:
        if error.is_for_no_certificate:
            # No HTTP yet to answer in: the client gets the alert certificate_required, the log the reason.
            _log.info("client-certificate-refused", extra={"reason": "missing", "source": self._source()})
        self._send(tls.to_send())
        if self._socket_side is not None:
            self._socket_side.close()

    def _source(self) -> str:
        return "" if self.peer is None else self.peer.source

    # --- for the HTTP side ---

    def extra_info(self, name: str) -> Any:
        """What gunicorn asks of its transport: addresses, and whether there is TLS (`ssl_object`)."""
        if name == "ssl_object":
            return self._tls
        return None if self._socket_side is None else self._socket_side.get_extra_info(name)
