"""The client end of a channel for an event loop: one connection, any number of calls in flight.

    client = AsyncClient(path, expected_uids=frozenset({uid}))   # on its loop, after the fork
    answer = await client.call(body, timeout_s=1.0)              # Answer(request_id, status, body), or Busy

Rules:
- An answer belongs to the call whose id it carries; any other (a late one) is dropped.
- A call ends at its deadline, whatever the peer does. One that is cancelled is forgotten at once, and what of
  it was not sent yet never is.
- Nothing blocks. While the socket is full, a few messages wait for it, in order, until their calls'
  deadlines; beyond `MAX_UNSENT` or `MAX_UNSENT_BYTES` a call is `Busy` at once.
- A peer that ends, or sends what is no answer, loses the connection: all calls in flight are `Busy`. The next
  call connects again.

Owner: one event loop's thread. Frames, sockets and the client for threads: `ostiary.edge.channel`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from pathlib import Path
from typing import Final

from ostiary.edge.channel import Answer, answer_of, connect
from ostiary.edge.frame import MAX_FRAME_BYTES, REQUEST_ID_BYTES, MalformedFrame, encode_frame
from ostiary.edge.packet import decode_packet
from ostiary.edge.packet_socket import Connection, PeerClosed, check_path
from ostiary.errors import BadInput, Busy, InternalFault, OstiaryError

# Beside what the kernel holds (some hundred messages): a turn of the recorder, and two largest frames.
MAX_UNSENT: Final = 256
MAX_UNSENT_BYTES: Final = 2 * MAX_FRAME_BYTES
# After so many answers the loop's other work has its turn; what still waits wakes it again.
_MAX_RECEIVED: Final = 1024


class AsyncClient:
    """Calls a role from the coroutines of one loop; connects, and connects again, by itself.

    A client belongs to the process that made it, as `ostiary.edge.channel.Client` does: any use in a child of
    it is an `InternalFault`.
    """

    def __init__(self, path: Path, *, expected_uids: frozenset[int], max_in_flight: int = 1024) -> None:
        """RuntimeError where no loop runs."""
        check_path(path)
        self._path = path
        self._expected_uids = expected_uids
        self._max_in_flight = max_in_flight
        self._loop = asyncio.get_running_loop()
        self._pid = os.getpid()
        self._connection: Connection | None = None
        # Futures hold an error as a value: asyncio logs an exception that nobody took, and a caller that was
        # cancelled takes none.
        self._in_flight: dict[bytes, asyncio.Future[Answer | OstiaryError]] = {}
        # By request id, in the order of the calls.
        self._unsent: dict[bytes, bytes] = {}
        self._unsent_bytes = 0
        self._closed = False

    async def call(self, body: bytes, *, timeout_s: float) -> Answer:
        """Send `body` and wait for its answer. `Busy` where the peer is gone, full, or later than
        `timeout_s`; `Forbidden` where it is another user; `BadInput` where the message is too large.
        """
        self._check_process()
        if len(self._in_flight) >= self._max_in_flight:
            raise Busy(f"too many calls to '{self._path.name}' in flight")
        request_id = os.urandom(REQUEST_ID_BYTES)
        deadline_ns = time.monotonic_ns() + int(timeout_s * 1e9)
        self._send(request_id, encode_frame(request_id, deadline_ns, body))
        found: asyncio.Future[Answer | OstiaryError] = self._loop.create_future()
        self._in_flight[request_id] = found
        timer = self._loop.call_later(timeout_s, self._expire, request_id)
        try:
            answer = await found
        finally:
            timer.cancel()
            self._in_flight.pop(request_id, None)
            self._take_back(request_id)
        if isinstance(answer, OstiaryError):
            raise answer
        return answer

    def close(self) -> None:
        """End the connection; calls in flight and later ones are `Busy`."""
        self._check_process()
        self._closed = True
        self._end(f"channel to '{self._path.name}' is closed")

    def _check_process(self) -> None:
        # Two processes would read each other's answers, and share the loop's epoll too.
        if os.getpid() != self._pid:
            raise InternalFault("channel client used in a child of the process that made it")

    # --- sending ---

    def _send(self, request_id: bytes, packet: bytes) -> None:
        connection = self._connected()
        try:
            self._send_or_keep(connection, request_id, packet)
        except PeerClosed:
            # It took nothing of this packet, so another connection may.
            self._end_gone(connection)
            self._send_on_new(request_id, packet)

    def _send_on_new(self, request_id: bytes, packet: bytes) -> None:
        connection = self._connected()
        try:
            self._send_or_keep(connection, request_id, packet)
        except PeerClosed as exc:
            self._end_gone(connection)
            raise Busy(f"'{self._path.name}' went away") from exc

    def _send_or_keep(self, connection: Connection, request_id: bytes, packet: bytes) -> None:
        """Send; keep where others wait already or the socket is full."""
        if not self._unsent:
            try:
                connection.send(packet)
            except Busy:
                self._loop.add_writer(connection.sock, self._on_writable, connection)
            else:
                return
        if len(self._unsent) >= MAX_UNSENT or self._unsent_bytes + len(packet) > MAX_UNSENT_BYTES:
            raise Busy(f"channel to '{self._path.name}' is full")
        self._unsent[request_id] = packet
        self._unsent_bytes += len(packet)

    def _connected(self) -> Connection:
        if self._connection is None:
            if self._closed:
                raise Busy(f"channel to '{self._path.name}' is closed")
            sock = connect(self._path, expected_uids=self._expected_uids)
            self._connection = Connection(sock, bytearray(MAX_FRAME_BYTES))
            self._loop.add_reader(sock, self._on_readable, self._connection)
        return self._connection

    def _on_writable(self, connection: Connection) -> None:
        """Send what was kept, as far as the socket takes it."""
        try:
            while self._unsent:
                request_id, packet = next(iter(self._unsent.items()))
                try:
                    connection.send(packet)
                except BadInput as exc:
                    self._settle(request_id, exc)
                self._take_back(request_id)
        except Busy:
            return
        except PeerClosed:
            self._end_gone(connection)
        else:
            self._loop.remove_writer(connection.sock)

    def _take_back(self, request_id: bytes) -> None:
        packet = self._unsent.pop(request_id, None)
        if packet is not None:
            self._unsent_bytes -= len(packet)

    # --- answers ---

    def _on_readable(self, connection: Connection) -> None:
        try:
            self._receive(connection)
        except (PeerClosed, MalformedFrame):
            self._end(_went_away(self._path))

    def _end_gone(self, connection: Connection) -> None:
        """End a connection whose peer takes nothing any more; what it answered before can still be read."""
        with contextlib.suppress(PeerClosed, MalformedFrame):
            self._receive(connection)
        self._end(_went_away(self._path))

    def _receive(self, connection: Connection) -> None:
        """Give the answers that wait to their calls."""
        for _ in range(_MAX_RECEIVED):
            packet = connection.receive()
            if packet is None:
                return
            for frame in decode_packet(packet):
                answer = answer_of(frame)
                self._settle(answer.request_id, answer)

    def _settle(self, request_id: bytes, outcome: Answer | OstiaryError) -> None:
        found = self._in_flight.pop(request_id, None)
        # Done without an outcome: its caller was cancelled, and has not run since.
        if found is not None and not found.done():
            found.set_result(outcome)

    def _expire(self, request_id: bytes) -> None:
        self._settle(request_id, Busy(f"'{self._path.name}' did not answer in time"))

    def _end(self, reason: str) -> None:
        """Close the connection, and end all calls in flight."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._loop.remove_reader(connection.sock)
            self._loop.remove_writer(connection.sock)
            connection.close()
        self._unsent.clear()
        self._unsent_bytes = 0
        for request_id in list(self._in_flight):
            self._settle(request_id, Busy(reason))


def _went_away(path: Path) -> str:
    return f"'{path.name}' went away before it answered"
