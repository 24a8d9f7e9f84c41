"""What is to be sent on one connection, in pieces: encrypted no earlier than the kernel takes them.

Rules:
- What waits stays as it is, a view of the application's bytes: a thousand slow readers of one list of
  revoked certificates hold one list.
- Only `_HIGH_BYTES` are handed to asyncio before the kernel takes them: it copies what it keeps.
- Who owns this asks now and then how much was delivered, and decides whether that is enough.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from ostiary.front.tls import RECORD_BYTES, TLSConnection

_HIGH_BYTES: Final = 64 << 10


class Outflow:
    """See the module's docstring; `tls` is None on a plain connection."""

    def __init__(self, side: asyncio.Transport, tls: TLSConnection | None) -> None:
        self._side = side
        self._tls = tls
        self._pieces: deque[memoryview] = deque()
        self._piece_bytes = 0
        self._handed_over = 0
        self._delivered_before = 0
        self.is_blocked = False
        """Whether asyncio holds as much as it may."""
        side.set_write_buffer_limits(high=_HIGH_BYTES)

    @property
    def waits(self) -> bool:
        """Whether something was not handed over yet."""
        return bool(self._pieces)

    @property
    def waiting_bytes(self) -> int:
        """What the kernel has not taken yet."""
        return self._piece_bytes + self._side.get_write_buffer_size()

    def add(self, data: bytes) -> None:
        """Have `data` sent behind everything else, by the next `pump`."""
        self._pieces.append(memoryview(data))
        self._piece_bytes += len(data)

    def pump(self) -> None:
        """Hand over what asyncio may hold; TLSError."""
        pieces, tls = self._pieces, self._tls
        while pieces and not self.is_blocked:
            piece = pieces[0]
            if len(piece) > RECORD_BYTES:
                pieces[0] = piece[RECORD_BYTES:]
                piece = piece[:RECORD_BYTES]
            else:
                pieces.popleft()
            self._piece_bytes -= len(piece)
            self.send(bytes(piece) if tls is None else tls.encrypt(piece))

    def send(self, ciphertext: bytes) -> None:
        """Send what TLS itself has to say, or nothing."""
        if ciphertext:
            self._handed_over += len(ciphertext)
            self._side.write(ciphertext)

    def begin_delivery(self) -> None:
        """Count what is delivered from now on."""
        self._delivered_before = self._delivered()

    def delivered_bytes(self) -> int:
        """Return what the kernel took since `begin_delivery`, and begin again."""
        before = self._delivered_before
        self.begin_delivery()
        return self._delivered_before - before

    def end(self) -> None:
        """Say that nothing follows: close_notify, then the end of the stream."""
        if self._tls is not None and self._tls.is_established:
            self.send(self._tls.close())
        if self._side.can_write_eof() and not self._side.is_closing():
            self._side.write_eof()

    def drop(self) -> None:
        """Forget what was not handed over."""
        self._pieces.clear()
        self._piece_bytes = 0

    def _delivered(self) -> int:
        return self._handed_over - self._side.get_write_buffer_size()
