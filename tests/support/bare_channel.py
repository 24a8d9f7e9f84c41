"""A channel's far end in a test's hands, and a client on the same event loop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ostiary.edge.async_channel import AsyncClient
from ostiary.edge.channel import Answer
from ostiary.edge.frame import MAX_FRAME_BYTES, Status, decode_frame, encode_frame
from ostiary.edge.packet_socket import listen
from tests.support.echo_channel import ME
from tests.support.waiting import PATIENCE_S


@dataclass(frozen=True)
class Peer:
    """The far end of one connection."""

    sock: socket.socket

    async def hear(self) -> tuple[bytes, bytes]:
        """(request id, body) of the next request."""
        packet = await asyncio.get_running_loop().sock_recv(self.sock, MAX_FRAME_BYTES)
        request_id, _, body = decode_frame(packet)
        return request_id, body

    def say(self, request_id: bytes, body: bytes) -> None:
        self.sock.send(encode_frame(request_id, Status.OK, body))


class BareServer:
    """A listening socket; each connection is accepted when the test says so."""

    def __init__(self, path: Path) -> None:
        self._sock = listen(path, mode=0o600, gid=None)

    @asynccontextmanager
    async def accept(self) -> AsyncIterator[Peer]:
        sock, _ = await asyncio.get_running_loop().sock_accept(self._sock)
        sock.setblocking(False)
        with sock:
            yield Peer(sock)

    def close(self) -> None:
        self._sock.close()


def on_loop(path: Path, story: Callable[[AsyncClient], Coroutine[Any, Any, None]], **options: Any) -> None:
    """Run a story with a client of its own."""

    async def run() -> None:
        client = AsyncClient(path, expected_uids=ME, **options)
        try:
            await story(client)
        finally:
            client.close()

    asyncio.run(run())


def begin(client: AsyncClient, body: bytes, timeout_s: float = PATIENCE_S) -> asyncio.Task[Answer]:
    """A call that runs beside the test."""
    return asyncio.create_task(client.call(body, timeout_s=timeout_s))


async def turns_of_the_loop(count: int = 3) -> None:
    """What is ready runs: a step of a task, a callback of a socket, what that one woke."""
    for _ in range(count):
        await asyncio.sleep(0)
