"""Deadlines and held writes for a front's sockets, TLS or plain, and the plain socket itself.

Rules:
- Every exchange ends: a client that sends or reads one byte at a time is disconnected. An exchange is one
  request and its response; it begins with `setblocking(True)`, which gunicorn calls for each.
- `sendall` holds its data until a TLS record is full, or until a send, a read or a flush: gunicorn writes
  head and body separately, and two small packets cost both ends twice.
"""

from __future__ import annotations

import socket
import time
from typing import Any, Final, Self

# The most that one TLS record carries (RFC 8446 section 5.1).
_HELD_BYTES: Final = 16 << 10


class ExchangeDeadline:
    """The moments by which an exchange's blocking reads, and its blocking writes, must have ended.

    A timeout for each read would not do: one byte every 0.4 s held a thread for as long as the client liked.
    """

    def __init__(self, exchange_s: float) -> None:
        self._exchange_s = exchange_s
        self._until_s: float | None = None
        self._is_writing = False

    def begin(self, *, blocking: bool) -> None:
        """Start the clock of the reads; without `blocking` there is nothing to wait for."""
        self._is_writing = False
        self._until_s = time.monotonic() + self._exchange_s if blocking else None

    def begin_writing(self) -> None:
        """Start the clock of the writes, unless it runs already."""
        # At the first write and not at the request: a long poll answers late, and its response still has the
        # whole time to leave.
        if not self._is_writing and self._until_s is not None:
            self._is_writing = True
            self._until_s = time.monotonic() + self._exchange_s

    def left_s(self) -> float | None:
        """Seconds left, None where nothing blocks; TimeoutError when the time is over."""
        if self._until_s is None:
            return None
        left_s = self._until_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("the exchange took too long")
        return left_s


class HeldWrites:
    """Writes that leave together; a subclass's `_transmit` sends all of its argument."""

    _held: bytearray

    def _transmit(self, data: bytes) -> None:
        raise NotImplementedError

    def sendall(self, data: Any, flags: int = 0) -> None:  # noqa: ARG002 - socket's signature
        """Hold `data`; send everything held once it fills a record."""
        self._held += data
        if len(self._held) >= _HELD_BYTES:
            self.flush()

    def send(self, data: Any, flags: int = 0) -> int:  # noqa: ARG002 - socket's signature
        """Send what is held and all of `data` at once."""
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
        """Take over an accepted socket and make it non-blocking."""
        # A new object of our class on the same descriptor; `detach` keeps the old one from closing it.
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
        """Do nothing: a plain socket has no handshake."""

    def pending(self) -> int:
        """The number of bytes read ahead: none on a plain socket."""
        return 0

    def discard(self, nbytes: int) -> int:
        """Discard up to `nbytes` and return how many there were."""
        return len(super().recv(nbytes))

    def _transmit(self, data: bytes) -> None:
        self._deadline.begin_writing()
        self._bound()
        socket.socket.sendall(self, data)

    def _bound(self) -> None:
        left_s = self._deadline.left_s()
        if left_s is not None:
            self.settimeout(left_s)
