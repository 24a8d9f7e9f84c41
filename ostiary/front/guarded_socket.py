"""What a front's sockets have in common, TLS or not, and the plain one.

Rules:
- Exchanges end: a client that sends or takes one byte at a time is cut off. An exchange is one request and
  its answer; it begins with `setblocking(True)`, as gunicorn calls it for each.
- What `sendall` is given is held until there is a record of it, or somebody sends, reads or flushes: gunicorn
  writes head and body apart, and two small packets cost both ends twice.
"""

from __future__ import annotations

import socket
import time
from typing import Any, Final, Self

_HELD_BYTES: Final = 16 << 10  # a TLS record's


class ExchangeDeadline:
    """When the blocking reads, and the blocking writes, of an exchange must have ended.

    The clock of the writes starts at the first, so that an answer that took its time (a long poll) is still
    sent.
    """

    def __init__(self, exchange_s: float) -> None:
        self._exchange_s = exchange_s
        self._until: float | None = None
        self._is_writing = False

    def begin(self, *, blocking: bool) -> None:
        """Start the clock of the reads; without `blocking` there is nothing to wait for."""
        self._is_writing = False
        self._until = time.monotonic() + self._exchange_s if blocking else None

    def begin_writing(self) -> None:
        """Start the clock of the writes, if it isn't running."""
        if not self._is_writing and self._until is not None:
            self._is_writing = True
            self._until = time.monotonic() + self._exchange_s

    def left_s(self) -> float | None:
        """Seconds left, None where nothing blocks; TimeoutError when none are."""
        if self._until is None:
            return None
        left_s = self._until - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("the exchange took too long")
        return left_s


class HeldWrites:
    """Writes that leave together; `_transmit` is to send all of something."""

    _held: bytearray

    def _transmit(self, data: bytes) -> None:
        raise NotImplementedError

    def sendall(self, data: Any, flags: int = 0) -> None:  # noqa: ARG002 - socket's signature
        """Hold `data`, or send it with what was held."""
        self._held += data
        if len(self._held) >= _HELD_BYTES:
            self.flush()

    def send(self, data: Any, flags: int = 0) -> int:  # noqa: ARG002 - socket's signature
        """Send at once what is held, and then `data`, whole."""
        self._held += data
        self.flush()
        return len(data)

    def flush(self) -> None:
        """Send what is held."""
        if self._held:
            held, self._held = bytes(self._held), bytearray()
            self._transmit(held)


class GuardedSocket(HeldWrites, socket.socket):
    """A plain socket of a front."""

    _deadline: ExchangeDeadline

    @classmethod
    def adopt(cls, sock: socket.socket, *, exchange_s: float) -> Self:
        """Take over an accepted socket, non-blocking."""
        adopted = cls(fileno=sock.detach())
        adopted._held = bytearray()
        adopted._deadline = ExchangeDeadline(exchange_s)
        adopted.setblocking(False)
        return adopted

    def setblocking(self, flag: bool) -> None:  # noqa: FBT001 - socket's signature
        self._deadline.begin(blocking=flag)
        super().setblocking(flag)

    def recv(self, bufsize: int = 8192, flags: int = 0) -> bytes:
        self.flush()
        self._bound()
        return super().recv(bufsize, flags)

    def do_handshake(self) -> None:
        """A plain socket has none."""

    def pending(self) -> int:
        """How many bytes were read ahead: a plain socket keeps none."""
        return 0

    def discard(self, nbytes: int) -> int:
        """Throw away up to `nbytes`; how many."""
        return len(super().recv(nbytes))

    def _transmit(self, data: bytes) -> None:
        self._deadline.begin_writing()
        self._bound()
        socket.socket.sendall(self, data)

    def _bound(self) -> None:
        left_s = self._deadline.left_s()
        if left_s is not None:
            self.settimeout(left_s)
