"""What gunicorn's protocol sees in place of a socket: an asyncio transport whose other end is a
`FrontConnection`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Any

from ostiary.front.connection import FrontConnection
from ostiary.front.peer import acting_for

_log = logging.getLogger("ostiary.front")


class HTTPSide(asyncio.Transport):
    """The transport of one protocol object of gunicorn's; it forwards, and decides nothing."""

    def __init__(self, connection: FrontConnection, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self._connection = connection
        self._protocol = protocol
        self._is_paused = False
        self._is_lost = False
        if connection.peer is None:
            raise AssertionError("HTTP before the connection")
        # The tasks that gunicorn makes for this connection know its peer.
        with acting_for(connection.peer):
            protocol.connection_made(self)

    # --- the connection calls these ---

    def feed(self, data: bytes) -> None:
        """Give the protocol what the client sent.

        Whatever it raises ends the connection: the message may quote the client, so only its type is logged.
        """
        if self._is_lost:
            return
        try:
            self._protocol.data_received(data)
        except Exception as exc:  # noqa: BLE001 - a parser's bug must not end the worker
            _log.warning("parser-failed", extra={"error": type(exc).__name__})
            self._connection.refuse(400)
            self._connection.leave()

    def note_waiting(self, *, is_waiting: bool) -> None:
        """Have the application wait while its answer waits for the client."""
        if self._is_lost or is_waiting == self._is_paused:
            return
        self._is_paused = is_waiting
        if self._is_paused:
            self._protocol.pause_writing()
        else:
            self._protocol.resume_writing()

    def let_go(self) -> None:
        """End the protocol, from the loop: it may be in the middle of a call of its own."""
        asyncio.get_running_loop().call_soon(self.lost, None)

    def lost(self, exc: Exception | None) -> None:
        """End the protocol now; only the first call counts."""
        if not self._is_lost:
            self._is_lost = True
            self._protocol.connection_lost(exc)

    # --- gunicorn calls these ---

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        found = self._connection.extra_info(name)
        return default if found is None else found

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._connection.write(bytes(data))

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        for data in list_of_data:
            self._connection.write(bytes(data))

    def close(self) -> None:
        self._connection.leave()

    def abort(self) -> None:
        self._connection.leave()

    def is_closing(self) -> bool:
        return self._is_lost

    def can_write_eof(self) -> bool:
        return False

    def pause_reading(self) -> None:
        self._connection.pausing.set("http", is_paused=True)

    def resume_reading(self) -> None:
        self._connection.pausing.set("http", is_paused=False)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Do nothing: `FrontConnection` sets the limits."""
