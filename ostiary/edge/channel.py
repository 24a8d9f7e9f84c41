"""Channels between the roles of one service: framed messages over UNIX SOCK_SEQPACKET sockets.

One message is one packet, so there is no stream to fall out of step with; the kernel says who the peer is.

    request  msgpack [request_id: bytes(16), deadline_ns: int, body: bytes]
    answer   msgpack [request_id: bytes(16), status: int,      body: bytes]

Rules:
- `deadline_ns` is CLOCK_MONOTONIC, absolute: the same instant in every process of a host.
- Nobody blocks on a send. A full socket is `Busy`, and so are a dead peer (EOF), a late one and none at all.
- The id is random per message; an answer with another id (a late one) is dropped.
- Both ends check SO_PEERCRED: the server on accept, the client after connect (as they were at `listen`).
- A packet is at most `MAX_FRAME_BYTES`, or what the kernel lets SO_SNDBUF be where a role may not raise it
  (net.core.wmem_max; its default of 212,992 gives 425,952 bytes). A larger one is the sender's `BadInput`.

The two ends:

    client = Client(path, expected_uids=frozenset({uid}))   # threads; made after fork, never carried over one
    answer = client.call(body, timeout_s=1.0)               # Answer(request_id, status, body), or raises Busy

    hub = Hub()                                             # ostiary.edge.hub: for single-threaded roles
    hub.listen(path, channel="front", allowed_uids=frozenset({uid}))
    link = hub.connect(path, expected_uids=frozenset({uid}), name="keyholder")
    for event in hub.poll(0.5): ...     # Request | AnswerArrived | PeerArrived | PeerGone | Readable

`Client` keeps one connection per call in flight and lends it to one thread at a time: who waits reads, so a
round trip costs two context switches and no lock is held while waiting.
What is *not* here: who may send what (the roles' closed lists of work), and encryption (one kernel).
"""

from __future__ import annotations

import os
import select
import socket
import stat
import struct
import time
from collections import deque
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Final

import msgspec

from ostiary.errors import BadInput, Busy, Forbidden, InternalFault, Misconfigured

MAX_FRAME_BYTES: Final = 1 << 20
REQUEST_ID_BYTES: Final = 16
# sun_path is 108 bytes with its final NUL (unix(7)).
MAX_PATH_BYTES: Final = 107
_BACKLOG: Final = 128
# The kernel keeps 32 bytes of SO_SNDBUF for itself (net/unix/af_unix.c, unix_dgram_sendmsg).
_SNDBUF_RESERVE_BYTES: Final = 32
# Not in Python's socket module: SO_SNDBUFFORCE (socket(7)) and SO_PEERGROUPS (Linux 4.13).
_SO_SNDBUFFORCE: Final = 32
_SO_PEERGROUPS: Final = 59
_MAX_GROUPS: Final = 4096
_RECV_FLAGS: Final = socket.MSG_DONTWAIT | socket.MSG_TRUNC
_SEND_FLAGS: Final = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL


class Status(IntEnum):
    """What an answer says before its body is read."""

    OK = 0
    REFUSED = 1
    BUSY = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerCredentials:
    """Who the kernel says is at the other end (SO_PEERCRED), as it was at connect or listen."""

    pid: int
    uid: int
    gid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the peer said to one request."""

    request_id: bytes
    status: Status
    body: bytes = field(repr=False)


class MalformedFrame(Exception):
    """The peer sent something that is no frame; the connection is closed."""


class PeerClosed(Exception):
    """End of file: the peer is gone."""


# --- frames (pure) ---

_encoder = msgspec.msgpack.Encoder()
_frame_decoder = msgspec.msgpack.Decoder(tuple[bytes, int, bytes], strict=True)


def encode_frame(request_id: bytes, number: int, body: bytes) -> bytes:
    """One packet; `number` is a request's deadline in ns or an answer's status."""
    return _encoder.encode((request_id, number, body))


def decode_frame(packet: bytes | memoryview) -> tuple[bytes, int, bytes]:
    """(request id, deadline or status, body); raises `MalformedFrame`."""
    try:
        frame = _frame_decoder.decode(packet)
    except msgspec.MsgspecError as exc:
        raise MalformedFrame("not a frame") from exc
    if len(frame[0]) != REQUEST_ID_BYTES:
        raise MalformedFrame(f"request id of {len(frame[0])} bytes")
    return frame


def decode_answer(packet: bytes | memoryview) -> Answer:
    """Decode an answer; raises `MalformedFrame`, also for a status outside `Status`."""
    request_id, status, body = decode_frame(packet)
    try:
        return Answer(request_id=request_id, status=Status(status), body=body)
    except ValueError as exc:
        raise MalformedFrame(f"status {status}") from exc


# --- sockets ---


def check_path(path: Path) -> None:
    """Raise `Misconfigured` for a path that no UNIX socket address can hold."""
    length = len(os.fsencode(path))
    if length > MAX_PATH_BYTES:
        message = f"socket path '{path}' has {length} bytes; at most {MAX_PATH_BYTES}: choose a shorter home"
        raise Misconfigured(message)


def peer_of(sock: socket.socket) -> PeerCredentials:
    """SO_PEERCRED of a connected UNIX socket."""
    pid, uid, gid = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return PeerCredentials(pid=pid, uid=uid, gid=gid)


def peer_groups(sock: socket.socket) -> frozenset[int]:
    """Supplementary groups of the peer at connect; SO_PEERCRED only has the first group."""
    raw = sock.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, 4 * _MAX_GROUPS)
    return frozenset(struct.unpack(f"{len(raw) // 4}I", raw))


def widen(sock: socket.socket) -> int:
    """Raise SO_SNDBUF so that `MAX_FRAME_BYTES` fit, as far as allowed; the largest packet in bytes."""
    # Twice: room for a largest frame while another is on its way (the kernel doubles it again).
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, 2 * MAX_FRAME_BYTES)
    except OSError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * MAX_FRAME_BYTES)
    granted = sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
    return min(MAX_FRAME_BYTES, granted - _SNDBUF_RESERVE_BYTES)


def listen(path: Path, *, mode: int, gid: int | None) -> socket.socket:
    """Open a listening SEQPACKET socket at `path`, replacing one that a dead role left there."""
    check_path(path)
    if path.exists() and not stat.S_ISSOCK(path.lstat().st_mode):
        raise Misconfigured(f"'{path}' is in the way of a socket")
    path.unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        sock.bind(os.fspath(path))
        # Between bind and listen nobody can connect yet, so the mode is right before the first peer.
        if gid is not None:
            os.chown(path, -1, gid)
        path.chmod(mode)
        sock.listen(_BACKLOG)
    except OSError as exc:
        sock.close()
        raise Misconfigured(f"can't listen on '{path}': {exc.strerror}") from exc
    return sock


def connect(path: Path, *, expected_uids: frozenset[int]) -> socket.socket:
    """Connect without blocking; `Busy` where nobody listens, `Forbidden` where the wrong user does."""
    check_path(path)
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


class Connection:
    """One connected socket with its receive buffer; owned by one thread at a time."""

    __slots__ = ("_buffer", "_view", "limit_bytes", "sock")

    def __init__(self, sock: socket.socket, buffer: bytearray) -> None:
        """`buffer` has `MAX_FRAME_BYTES` and may be shared by connections of one thread."""
        self.sock = sock
        self.limit_bytes = widen(sock)
        self._buffer = buffer
        self._view = memoryview(buffer)

    def send(self, packet: bytes) -> None:
        """Hand one packet to the kernel; `Busy` when it is full, `BadInput` when too large, `PeerClosed`."""
        if len(packet) > self.limit_bytes:
            raise BadInput(f"message of {len(packet)} bytes; a channel takes {self.limit_bytes}")
        try:
            self.sock.send(packet, _SEND_FLAGS)
        except BlockingIOError as exc:
            raise Busy("channel is full") from exc
        except OSError as exc:
            raise PeerClosed from exc

    def receive(self) -> memoryview | None:
        """Take the next packet (valid until the next call) or None; `PeerClosed`, `MalformedFrame`."""
        try:
            length = self.sock.recv_into(self._buffer, 0, _RECV_FLAGS)
        except BlockingIOError:
            return None
        except OSError as exc:
            raise PeerClosed from exc
        if length == 0:
            raise PeerClosed
        if length > MAX_FRAME_BYTES:
            raise MalformedFrame(f"packet of {length} bytes")
        return self._view[:length]

    def close(self) -> None:
        self._view.release()
        self.sock.close()


# --- the client for threads ---


class Client:
    """Calls a role from many threads; reconnects by itself.

    A client belongs to the process that made it: after a fork two processes would read each other's answers,
    so any use in a child is an `InternalFault`. Make it in the worker's start hook.
    """

    def __init__(self, path: Path, *, expected_uids: frozenset[int], max_connections: int = 64) -> None:
        check_path(path)
        self._path = path
        self._expected_uids = expected_uids
        self._pid = os.getpid()
        # Idle connections, most recently used at the right: deque's append and pop are atomic.
        self._idle: deque[Connection] = deque()
        # Permits: one token per connection that may still be in use.
        self._permits: deque[None] = deque([None] * max_connections)
        self._closed = False

    def call(self, body: bytes, *, timeout_s: float) -> Answer:
        """Send `body`, wait for its answer; `Busy` when the peer is gone, full or later than `timeout_s`."""
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
            answer = _await_answer(connection, request_id, deadline_ns)
        except (PeerClosed, MalformedFrame) as exc:
            connection.close()
            raise Busy(f"'{self._path.name}' went away before it answered") from exc
        except BaseException:
            connection.close()
            raise
        if answer is None:
            # A late answer will meet a reader with another id, or a closed socket.
            connection.close()
            raise Busy(f"'{self._path.name}' did not answer in time")
        self._give_back(connection)
        return answer

    def _send(self, packet: bytes) -> Connection:
        """Send on an idle connection or a new one; one that died while idle took nothing, so try the next."""
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


def _await_answer(connection: Connection, request_id: bytes, deadline_ns: int) -> Answer | None:
    """Read until the answer to `request_id` or the deadline (None); every other id is dropped."""
    poll = select.poll()
    poll.register(connection.sock, select.POLLIN)
    while True:
        left_ns = deadline_ns - time.monotonic_ns()
        if left_ns <= 0 or not poll.poll(left_ns // 1_000_000 + 1):
            return None
        packet = connection.receive()
        if packet is None:
            continue
        answer = decode_answer(packet)
        if answer.request_id == request_id:
            return answer
