"""The loop of a single-threaded role: every message that waits on its channels, as a list of frozen events.

    hub = Hub()
    hub.listen(path, channel="front", allowed_uids=frozenset({1001}))
    link = hub.connect(path, expected_uids=frozenset({1002}), name="keyholder")    # or Busy
    hub.watch(fd, name="timer")
    for event in hub.poll(timeout_s):
        match event:
            case Request(): event.reply(Status.OK, body)     # now or later; False when the peer is gone
            case AnswerArrived(): ...                        # to link.send(body, deadline_ns=...) -> id
            case PeerGone(outgoing=True): ...                # connect again when you see fit

Rules:
- `poll` takes everything that waits, one packet per connection and round, so that one loud peer can't
  starve the others; it is bounded by `MAX_EVENTS` and `MAX_POLL_BYTES` (the rest waits in the kernel).
- A peer is admitted by uid, or by group where a listener names groups; anyone else is closed unread.
- A peer that sends what is no frame is closed. A request whose deadline has passed is dropped: its sender
  has given up.
- Nothing blocks but `poll`. Frames are defined in `ostiary.edge.frame`.
"""

from __future__ import annotations

import math
import os
import select
import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ostiary.edge.channel import connect, decode_answer
from ostiary.edge.frame import (
    MAX_FRAME_BYTES,
    REQUEST_ID_BYTES,
    MalformedFrame,
    Status,
    decode_frame,
    encode_frame,
)
from ostiary.edge.listener import Listener
from ostiary.edge.packet import Frame, encode_packets
from ostiary.edge.packet_socket import Connection, PeerClosed, PeerCredentials, listen, peer_of
from ostiary.errors import Busy

# What one poll hands to its caller at most, so that a flood neither fills the memory nor keeps the caller
# from its other work. 4,096 events are sixteen turns of the recorder.
MAX_EVENTS: Final = 4096
MAX_POLL_BYTES: Final = 32 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A peer asks; answer with `reply`, now or later, at most once."""

    peer: PeerCredentials
    channel: str
    request_id: bytes
    deadline_ns: int
    body: bytes = field(repr=False)
    _inbound: _Inbound = field(repr=False, compare=False)

    def reply(self, status: Status, body: bytes) -> bool:
        """Send without blocking; False when the peer is gone or does not read. `BadInput` when too large."""
        return self._inbound.send([(self.request_id, status, body)])


def reply_all(answers: Iterable[tuple[Request, Status, bytes]]) -> None:
    """Answer several requests as `Request.reply` does; what one peer gets leaves together."""
    by_peer: dict[_Inbound, list[Frame]] = {}
    for request, status, body in answers:
        by_peer.setdefault(request._inbound, []).append((request.request_id, status, body))  # noqa: SLF001
    for inbound, frames in by_peer.items():
        inbound.send(frames)


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerArrived:
    """An answer to a request sent on the outgoing link `channel`."""

    channel: str
    request_id: bytes
    status: Status
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerArrived:
    """A peer was admitted on the listener `channel`."""

    channel: str
    peer: PeerCredentials


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerGone:
    """A connection ended; on an outgoing link nothing that was in flight will be answered."""

    channel: str
    peer: PeerCredentials
    outgoing: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Readable:
    """A watched descriptor (a timer, a signal, an eventfd) is readable; reading it is the caller's."""

    name: str
    fd: int


Event = Request | AnswerArrived | PeerArrived | PeerGone | Readable


@dataclass(slots=True, kw_only=True)
class HubCounters:
    """What the hub dropped, for metrics."""

    refused_peers: int = 0
    malformed: int = 0
    expired: int = 0
    unread_answers: int = 0
    unknown_answers: int = 0


class Hub:
    """Listeners, links and watched descriptors of one thread."""

    def __init__(self) -> None:
        self.counters = HubCounters()
        self._epoll = select.epoll()
        # One thread reads one packet at a time: all connections share the buffer.
        self._buffer = bytearray(MAX_FRAME_BYTES)
        self._sources: dict[int, Listener | _Inbound | Link | Readable] = {}
        # Ended while sending, between two polls; reported by the next one.
        self._ended: list[PeerGone] = []

    def listen(
        self,
        path: Path,
        *,
        channel: str,
        allowed_uids: frozenset[int],
        allowed_gids: frozenset[int] = frozenset(),
        mode: int = 0o600,
        gid: int | None = None,
        max_peers: int = 256,
    ) -> None:
        """Open the socket `path` (file mode and group as given); its requests carry the name `channel`."""
        sock = listen(path, mode=mode, gid=gid)
        listener = Listener(
            sock, channel, allowed_uids=allowed_uids, allowed_gids=allowed_gids, max_peers=max_peers
        )
        self._add(sock.fileno(), listener)

    def connect(self, path: Path, *, expected_uids: frozenset[int], name: str) -> Link:
        """Open a link whose answers and end are events; `Busy` where nobody listens, `Forbidden`."""
        link = Link(self, Connection(connect(path, expected_uids=expected_uids), self._buffer), name)
        self._add(link.connection.sock.fileno(), link)
        return link

    def watch(self, fd: int, *, name: str) -> None:
        """Report `Readable(name)` once per poll while `fd` is readable; the caller reads it, and closes it
        after the last poll.
        """
        self._add(fd, Readable(name=name, fd=fd))

    def poll(self, timeout_s: float | None) -> list[Event]:
        """Everything that waits; sleeps up to `timeout_s` (None: for ever) only while nothing does."""
        events: list[Event] = [*self._ended]
        self._ended.clear()
        ready = self._epoll.poll(0 if events else timeout_s)
        self._take_all([fd for fd, _ in ready], events)
        return events

    def poll_link(self, link: Link, timeout_s: float) -> list[Event]:
        """Everything that waits on one link. Nothing else ends the sleep: it gathers in the kernel."""
        events: list[Event] = []
        if link.wait(timeout_s):
            self._take_all([link.connection.sock.fileno()], events)
        return events

    def _take_all(self, ready: list[int], events: list[Event]) -> None:
        budget_bytes = MAX_POLL_BYTES
        # Rounds: each takes one packet of every peer that had one in the last. Level-triggered, so what is
        # left waits in the kernel for the next poll.
        while ready and budget_bytes > 0 and len(events) < MAX_EVENTS:
            again: list[int] = []
            for fd in ready:
                budget_bytes -= self._take(fd, events, again)
            ready = again

    def close(self) -> None:
        """Close every listener and connection; watched descriptors stay the caller's."""
        for source in list(self._sources.values()):
            if not isinstance(source, Readable):
                source.close()
        self._sources.clear()
        self._epoll.close()

    def _add(self, fd: int, source: Listener | _Inbound | Link | Readable) -> None:
        self._sources[fd] = source
        self._epoll.register(fd, select.EPOLLIN)

    def _take(self, fd: int, events: list[Event], again: list[int]) -> int:
        """Take what one descriptor has next; its size in bytes. `again` gets what may have more."""
        source = self._sources.get(fd)
        match source:
            case _Inbound() | Link():
                return self._take_packet(fd, source, events, again)
            case Listener():
                again += self._accept(source, events)
                return 0
            case Readable():
                events.append(source)
                return 0
            case _:
                return 0

    def _take_packet(self, fd: int, source: _Inbound | Link, events: list[Event], again: list[int]) -> int:
        try:
            packet = source.connection.receive()
            if packet is None:
                return 0
            event = source.read(packet)
        except (PeerClosed, MalformedFrame) as exc:
            if isinstance(exc, MalformedFrame):
                self.counters.malformed += 1
            events.append(self._end(source))
            return 0
        again.append(fd)
        if event is not None:
            events.append(event)
        return len(packet)

    def _accept(self, listener: Listener, events: list[Event]) -> list[int]:
        """Admit everyone who waits; the descriptors of those who were."""
        admitted: list[int] = []
        while True:
            try:
                sock, _ = listener.sock.accept()
            except OSError:  # nobody waits, or out of descriptors: the next poll tries again
                return admitted
            if self._admit(listener, sock, events):
                admitted.append(sock.fileno())

    def _admit(self, listener: Listener, sock: socket.socket, events: list[Event]) -> bool:
        peer = peer_of(sock)
        if not listener.admits(sock, peer):
            self.counters.refused_peers += 1
            sock.close()
            return False
        sock.setblocking(False)
        listener.peers += 1
        self._add(sock.fileno(), _Inbound(self, Connection(sock, self._buffer), listener, peer))
        events.append(PeerArrived(channel=listener.channel, peer=peer))
        return True

    def _end(self, source: _Inbound | Link) -> PeerGone:
        # Before the close: a closed descriptor's number may be given to the next peer at once.
        fd = source.connection.sock.fileno()
        self._epoll.unregister(fd)
        del self._sources[fd]
        source.close()
        outgoing = isinstance(source, Link)
        return PeerGone(channel=source.channel, peer=source.peer, outgoing=outgoing)

    def end_later(self, source: _Inbound | Link) -> None:
        """Close a connection that a send found dead; its `PeerGone` comes with the next poll."""
        self._ended.append(self._end(source))


class Link:
    """An outgoing connection of a hub; `alive` until its `PeerGone`."""

    def __init__(self, hub: Hub, connection: Connection, channel: str) -> None:
        self.connection = connection
        self.channel = channel
        self.peer = peer_of(connection.sock)
        self.alive = True
        self._hub = hub
        self._in_flight: set[bytes] = set()
        self._waiter = select.poll()
        self._waiter.register(connection.sock, select.POLLIN)

    def send(self, body: bytes, *, deadline_ns: int) -> bytes:
        """Send a request; return its id. `Busy` where the peer is full or gone (nothing was sent), `BadInput`
        where the request is too large.
        """
        if not self.alive:
            raise Busy(f"'{self.channel}' is gone")
        request_id = os.urandom(REQUEST_ID_BYTES)
        try:
            self.connection.send(encode_frame(request_id, deadline_ns, body))
        except PeerClosed as exc:
            self._hub.end_later(self)
            raise Busy(f"'{self.channel}' went away") from exc
        self._in_flight.add(request_id)
        return request_id

    def wait(self, timeout_s: float) -> bool:
        """Sleep until the link has something, its end perhaps, or `timeout_s` have passed (False)."""
        # Rounded up: with 0 ms the last millisecond would be spun through.
        return self.alive and bool(self._waiter.poll(math.ceil(timeout_s * 1000)))

    def forget(self, request_id: bytes) -> None:
        """Give up on a request; its answer, should it still come, is dropped."""
        self._in_flight.discard(request_id)

    def read(self, packet: memoryview) -> AnswerArrived | None:
        """Make one packet an event; None where nobody waits for its id."""
        answer = decode_answer(packet)
        if answer.request_id not in self._in_flight:
            self._hub.counters.unknown_answers += 1
            return None
        self._in_flight.remove(answer.request_id)
        return AnswerArrived(
            channel=self.channel, request_id=answer.request_id, status=answer.status, body=answer.body
        )

    def close(self) -> None:
        self.alive = False
        self._in_flight.clear()
        self.connection.close()


class _Inbound:
    """An admitted peer."""

    def __init__(self, hub: Hub, connection: Connection, listener: Listener, peer: PeerCredentials) -> None:
        self.connection = connection
        self.channel = listener.channel
        self.peer = peer
        self.alive = True
        self._hub = hub
        self._listener = listener

    def read(self, packet: memoryview) -> Request | None:
        """Make one packet an event; None where its sender has given up by now."""
        request_id, deadline_ns, body = decode_frame(packet)
        if deadline_ns <= time.monotonic_ns():
            self._hub.counters.expired += 1
            return None
        return Request(
            peer=self.peer,
            channel=self.channel,
            request_id=request_id,
            deadline_ns=deadline_ns,
            body=body,
            _inbound=self,
        )

    def send(self, answers: list[Frame]) -> bool:
        """Send without blocking; False where some of them are lost."""
        if not self.alive:
            return False
        try:
            for packet in encode_packets(answers, limit_bytes=self.connection.limit_bytes):
                self.connection.send(packet)
        except (Busy, PeerClosed) as exc:
            self._hub.counters.unread_answers += len(answers)
            if isinstance(exc, PeerClosed):
                self._hub.end_later(self)
            return False
        return True

    def close(self) -> None:
        self.alive = False
        self._listener.peers -= 1
        self.connection.close()
