"""What gunicorn is told of its transport; the rest is in test_connection.py."""

from __future__ import annotations

import asyncio
from typing import Any

from ostiary.front.connection import FrontConnection
from ostiary.front.door import Door
from ostiary.front.http_side import HTTPSide
from ostiary.front.peer import peer_source
from ostiary.front.room import Phase, Room, RoomLimits
from tests.support.waiting import PATIENCE_S


class Asks(asyncio.Protocol):
    """Asks everything that gunicorn asks, when the connection begins."""

    told: dict[str, Any]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.set_write_buffer_limits(high=1)
        self.told = {
            "tls": transport.get_extra_info("ssl_object"),
            "unknown": transport.get_extra_info("nothing", "default"),
            "peer": transport.get_extra_info("peername")[0],
            "eof": transport.can_write_eof(),
            "source": peer_source(),
        }
        transport.pause_reading()
        transport.resume_reading()
        transport.writelines([b"ignored: nobody answers yet"])
        transport.abort()


def test_it_says_what_gunicorn_asks() -> None:
    protocol = Asks()

    async def story() -> None:
        limits = RoomLimits(
            connections=1,
            source_connections=1,
            held_bytes=1000,
            source_held_bytes=1000,
            seconds=dict.fromkeys(Phase, 10.0),
        )
        loop = asyncio.get_running_loop()
        door = Door(
            room=Room(limits),
            tls=None,
            max_head_bytes=1000,
            max_line_bytes=500,
            answer_s=10.0,
            clock=loop.time,
            serve=lambda connection: HTTPSide(connection, protocol),
        )
        server = await loop.create_server(lambda: FrontConnection(door), "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert await asyncio.wait_for(reader.read(), PATIENCE_S) == b""
        writer.close()
        server.close()

    asyncio.run(story())
    assert protocol.told == {
        "tls": None,
        "unknown": "default",
        "peer": "127.0.0.1",
        "eof": False,
        "source": "127.0.0.1",
    }
