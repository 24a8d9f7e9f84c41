"""Channels between the roles of one service: framed messages over UNIX SOCK_SEQPACKET sockets.

One message is one packet (`ostiary.edge.packet_socket`), so there is no stream to fall out of step with;
`ostiary.edge.frame` says what is in a packet. This file is the client for threads.

Rules:
- Nobody blocks on a send. A full socket is `Busy`, and so are a dead peer (EOF), a late one and none at all.
- An answer with another id than the request's (a late one) is dropped.
- Both ends check SO_PEERCRED: the server on accept, the client after connect (as they were at `listen`).

The two ends:

    client = Client(path, expected_uids=frozenset({uid}))   # threads; made after fork, never carried over one
    answer = client.call(body, timeout_s=1.0)               # Answer(request_id, status, body), or raises Busy

    hub = Hub()                                             # ostiary.edge.hub: for single-threaded roles
    hub.listen(path, channel="front", allowed_uids=frozenset({uid}))
    link = hub.connect(path, expected_uids=frozenset({uid}), name="keyholder")
    for event in hub.poll(0.5): ...     # Request | AnswerArrived | PeerArrived | PeerGone | Readable

`Client` keeps one connection for each call in flight and lends it to one thread at a time. The thread that
waits is the one that reads, so a round trip costs two context switches, and nobody holds a lock while
waiting. What is *not* here: who may send what (the roles' closed lists of work), and encryption (one kernel).
"""

from __future__ import annotations

import os
import select
import socket
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

from ostiary.edge.frame import (
    MAX_FRAME_BYTES,
    REQUEST_ID_BYTES,
    MalformedFrame,
    Status,
    decode_frame,
    encode_frame,
)
from ostiary.edge.packet import Frame
from ostiary.edge.packet_socket import Connection, PeerClosed, check_path, peer_of
from ostiary.errors import Busy, Forbidden, InternalFault


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the peer said to one request."""

    request_id: bytes
    status: Status
    body: bytes = field(repr=False)


def decode_answer(packet: bytes | memoryview) -> Answer:
    """Decode a packet of one answer; raises `MalformedFrame`, also for a status outside `Status`."""
    return answer_of(decode_frame(packet))


def answer_of(frame: Frame) -> Answer:
    """Read a frame as an answer; `MalformedFrame` for a status outside `Status`."""
    request_id, status, body = frame
    try:
        return Answer(request_id=request_id, status=Status(status), body=body)
    except ValueError as exc:
        raise MalformedFrame(f"status {status}") from exc


def connect(path: Path, *, expected_uids: frozenset[int]) -> socket.socket:
    """Connect without blocking; `Busy` where nobody listens, `Forbidden` where another user does."""
    check_path(path)
    # Non-blocking from the start: connect(2) on a full backlog is EAGAIN then, not a wait without a bound.
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        sock.connect(os.fspath(path))
        peer = peer_of(sock)
    except OSError as exc:
        sock.close()
        raise Busy(f"no peer at '{path.name}': {exc.strerror}") from exc
    if peer.uid not in expected_uids:
        sock.close()
        raise Forbidden(f"'{path.name}' is served by uid {peer.uid}", rule="channel-peer")
    return sock


class Client:
    """Calls a role from many threads; reconnects by itself.

    A client belongs to the process that made it: after a fork, two processes would read each other's answers.
    So any use in a child is an `InternalFault`; make the client in the worker's start hook.
    """

    def __init__(self, path: Path, *, expected_uids: frozenset[int], max_connections: int = 64) -> None:
        check_path(path)
        self._path = path
        self._expected_uids = expected_uids
        self._pid = os.getpid()
        # Idle connections, most recently used at the right: deque's append and pop are atomic.
        self._idle: deque[Connection] = deque()
        # One token for each call that may still begin. A deque, because its append and pop need no lock, and
        # a call that finds none is refused at once, where a semaphore would wait.
        self._permits: deque[None] = deque([None] * max_connections)
        self._closed = False

    def call(self, body: bytes, *, timeout_s: float) -> Answer:
        """Send `body` and wait for its answer; `Busy` where the peer is gone, full, or later than
        `timeout_s`.
        """
        deadline_ns = time.monotonic_ns() + int(timeout_s * 1e9)
        if os.getpid() != self._pid:
            raise InternalFault("channel client used in a child of the process that made it")
        try:
            self._permits.pop()
        except IndexError:
            raise Busy(f"too many calls to '{self._path.name}' in flight") from None
        try:
            return self._call(body, deadline_ns)
        finally:
            self._permits.append(None)

    def close(self) -> None:
        """Close idle connections; calls in flight end by themselves, and later ones are `Busy`."""
        self._closed = True
        while (connection := self._take_idle()) is not None:
            connection.close()

    def _call(self, body: bytes, deadline_ns: int) -> Answer:
        request_id = os.urandom(REQUEST_ID_BYTES)
        connection = self._send(encode_frame(request_id, deadline_ns, body))
        try:
            answer = await_answer(connection, request_id, deadline_ns)
        except (PeerClosed, MalformedFrame) as exc:
            connection.close()
            raise Busy(f"'{self._path.name}' went away before it answered") from exc
        except BaseException:
            # Whatever interrupted the wait (a worker's timeout, KeyboardInterrupt), an answer is still to
            # come on this connection.
            connection.close()
            raise
        if answer is None:
            # So that a late answer does not wait in the buffer for the next call, and the peer learns that
            # nobody reads it.
            connection.close()
            raise Busy(f"'{self._path.name}' did not answer in time")
        self._give_back(connection)
        return answer

    def _send(self, packet: bytes) -> Connection:
        """Send on an idle connection or a new one. One that died while idle took nothing, so the next is
        tried.
        """
        while (connection := self._take_idle()) is not None:
            try:
                connection.send(packet)
            except PeerClosed:
                connection.close()
            except BaseException:
                self._give_back(connection)
                raise
            else:
                return connection
        return self._send_on_new(packet)

    def _send_on_new(self, packet: bytes) -> Connection:
        if self._closed:
            raise Busy(f"channel to '{self._path.name}' is closed")
        sock = connect(self._path, expected_uids=self._expected_uids)
        connection = Connection(sock, bytearray(MAX_FRAME_BYTES))
        try:
            connection.send(packet)
        except PeerClosed as exc:
            connection.close()
            raise Busy(f"'{self._path.name}' went away") from exc
        except BaseException:
            connection.close()
            raise
        return connection

    def _take_idle(self) -> Connection | None:
        try:
            return self._idle.pop()
        except IndexError:
            return None

    def _give_back(self, connection: Connection) -> None:
        if self._closed:
            connection.close()
        else:
            self._idle.append(connection)


def await_answer(connection: Connection, request_id: bytes, deadline_ns: int) -> Answer | None:
    """Read until the answer to `request_id` or the deadline (None); every other id is dropped."""
    poll = select.poll()
    poll.register(connection.sock, select.POLLIN)
    while True:
        # Milliseconds, rounded up: poll(2) knows no finer, and 0 would spin at the end.
        left_ns = deadline_ns - time.monotonic_ns()
        if left_ns <= 0 or not poll.poll(left_ns // 1_000_000 + 1):
            return None
        packet = connection.receive()
        if packet is None:
            continue
        answer = decode_answer(packet)
        if answer.request_id == request_id:
            return answer
