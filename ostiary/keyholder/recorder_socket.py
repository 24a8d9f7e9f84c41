"""The keyholder's end of its one channel: a listening socket, a handful of peers, requests and answers.

    recorders = RecorderSocket(path, recorder_uids=frozenset({1001}))
    while True:
        for request in recorders.requests(None):
            request.reply(Status.OK, body)

Rules:
- Only the recorder's user may ask (SO_PEERCRED); anybody else is closed unread. A recorder has a connection
  to bring the keyholder up to date and one for its batches, and may come back before the old ones ended.
- A peer that sends what is no frame is closed. A request whose deadline has passed is dropped: its sender has
  given up.
- Nothing blocks but `requests`. One packet per peer and call, so that no peer can starve another.

It connects to nobody and watches nothing, so that the trusted base needs no more than this of
`ostiary.edge.hub`; both pass the same tests (tests/ostiary/keyholder/test_recorder_socket.py).
"""

from __future__ import annotations

import select
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ostiary.edge.frame import MAX_FRAME_BYTES, MalformedFrame, Status, decode_frame, encode_frame
from ostiary.edge.packet_socket import Connection, PeerClosed, PeerCredentials, listen, peer_of
from ostiary.errors import Busy

MAX_PEERS: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A recorder asks; answer with `reply`, at most once."""

    peer: PeerCredentials
    body: bytes = field(repr=False)
    _request_id: bytes = field(repr=False)
    _connection: Connection = field(repr=False, compare=False)

    def reply(self, status: Status, body: bytes) -> bool:
        """Send without blocking; False when the peer is gone or does not read. `BadInput` when too large."""
        try:
            self._connection.send(encode_frame(self._request_id, status, body))
        except (Busy, PeerClosed):
            return False
        return True


class RecorderSocket:
    """The listening socket and its peers. Owner: the keyholder's only thread."""

    def __init__(self, path: Path, *, recorder_uids: frozenset[int]) -> None:
        # 0666: the directory decides who may enter, SO_PEERCRED who is heard.
        self._listener = listen(path, mode=0o666, gid=None)
        self._uids = recorder_uids
        self._peers: dict[int, tuple[Connection, PeerCredentials]] = {}
        # One thread reads one packet at a time: all connections share the buffer.
        self._buffer = bytearray(MAX_FRAME_BYTES)
        self._poll = select.poll()
        self._poll.register(self._listener, select.POLLIN)

    def requests(self, timeout_s: float | None) -> list[Request]:
        """The next request of each peer that has one; sleeps up to `timeout_s` (None: for ever) while nobody
        does.
        """
        found: list[Request] = []
        for fd, _ in self._poll.poll(None if timeout_s is None else timeout_s * 1000):
            if fd not in self._peers:
                self._admit()
            elif request := self._take(fd):
                found.append(request)
        return found

    def close(self) -> None:
        """Close the socket and every connection."""
        for connection, _ in self._peers.values():
            connection.close()
        self._listener.close()

    def _admit(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:  # the peer has gone again, or no descriptor is left: the next poll tries again
            return
        peer = peer_of(sock)
        if peer.uid not in self._uids or len(self._peers) >= MAX_PEERS:
            sock.close()
            return
        sock.setblocking(False)
        self._peers[sock.fileno()] = (Connection(sock, self._buffer), peer)
        self._poll.register(sock, select.POLLIN)

    def _take(self, fd: int) -> Request | None:
        """The next request of a peer; None where it has gone, sent no frame, or has given up."""
        connection, peer = self._peers[fd]
        try:
            packet = connection.receive()
            if packet is None:
                return None
            request_id, deadline_ns, body = decode_frame(packet)
        except (PeerClosed, MalformedFrame):
            self._poll.unregister(fd)
            del self._peers[fd]
            connection.close()
            return None
        if deadline_ns <= time.monotonic_ns():
            return None
        return Request(peer=peer, body=body, _request_id=request_id, _connection=connection)
