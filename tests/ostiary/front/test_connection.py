"""One connection with a real socket and a small HTTP behind it: what is said, kept, replaced and given up.

tests/integration/test_front.py has the same with gunicorn's HTTP.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

from ostiary.front.connection import FrontConnection
from ostiary.front.door import Door
from ostiary.front.http_side import HTTPSide
from ostiary.front.room import Phase, Room, RoomLimits
from tests.support.waiting import PATIENCE_S

BIG = b"x" * (8 << 20)
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n"


class Script(asyncio.Protocol):
    """Stands where gunicorn's protocol does, and keeps what it is told."""

    def __init__(self) -> None:
        self.heard = b""
        self.side: asyncio.Transport | None = None
        self.is_paused = False
        self.is_lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.side = transport

    def data_received(self, data: bytes) -> None:
        self.heard += data
        if b"nonsense" in data:
            raise ValueError("a parser's bug, which may quote the client")
        if b"bad" in data and self.side is not None:
            self.side.write(b"HTTP/1.1 400 Bad Request\r\n\r\nbad")
            self.side.close()

    def pause_writing(self) -> None:
        self.is_paused = True

    def resume_writing(self) -> None:
        self.is_paused = False

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = True


class Stage:
    """A server with one client; `now_s` is its clock."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.script = Script()
        self.connection: FrontConnection | None = None
        seconds = dict.fromkeys(Phase, 10.0)
        self.room: Room[FrontConnection] = Room(
            RoomLimits(
                connections=10,
                source_connections=10,
                held_bytes=64 << 20,
                source_held_bytes=64 << 20,
                seconds=seconds,
            )
        )

    def serve(self, connection: FrontConnection) -> HTTPSide:
        self.connection = connection
        return HTTPSide(connection, self.script)

    @property
    def front(self) -> FrontConnection:
        assert self.connection is not None
        return self.connection

    def pass_time(self, seconds: float) -> None:
        self.now_s += seconds
        for connection in self.room.expired(self.now_s):
            connection.expire()


def on_stage(story: Callable[[Stage, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> None:
    async def play() -> None:
        stage = Stage()
        door = Door(
            room=stage.room,
            tls=None,
            max_head_bytes=1000,
            max_line_bytes=500,
            answer_s=10.0,
            clock=lambda: stage.now_s,
            serve=stage.serve,
        )
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: FrontConnection(door), "127.0.0.1", 0)
        # Small buffers on both ends, which accepted sockets inherit: the kernel takes little of an answer.
        server.sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16 << 10)
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 << 10)
        client.connect(server.sockets[0].getsockname())
        reader, writer = await asyncio.open_connection(sock=client, limit=4096)
        await asyncio.wait_for(story(stage, reader, writer), PATIENCE_S)
        writer.close()
        server.close()
        await until(lambda: len(stage.room) == 0)

    asyncio.run(play())


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not holds():  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0.001)


async def ask(stage: Stage, writer: asyncio.StreamWriter, data: bytes = GET) -> None:
    """Send a request, and have it taken as gunicorn would."""
    before = len(stage.script.heard)
    writer.write(data)
    await until(lambda: len(stage.script.heard) == before + len(data))


def answer(stage: Stage, data: bytes) -> None:
    stage.front.answer_begins()
    stage.front.write(data)
    stage.front.answer_complete()


def test_a_request_passes_through_its_phases() -> None:
    async def story(stage: Stage, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await ask(stage, writer, POST + b"ab")
        assert stage.room.phase(stage.front) is Phase.ASKING
        writer.write(b"cd")
        await until(lambda: stage.room.phase(stage.front) is Phase.WORKING)
        answer(stage, b"answer")
        assert await reader.readexactly(6) == b"answer"
        await until(lambda: stage.room.phase(stage.front) is Phase.IDLE)
        assert stage.room.phase(stage.front) is Phase.IDLE

    on_stage(story)


def test_what_the_http_says_by_itself_is_replaced() -> None:
    async def story(_stage: Stage, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(GET.replace(b"/ ", b"/bad-secret "))
        said = await reader.read()
        assert said.startswith(b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/problem+json")
        assert b"secret" not in said

    on_stage(story)


def test_a_parser_that_fails_costs_its_own_connection_only() -> None:
    async def story(_stage: Stage, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(GET.replace(b"/ ", b"/nonsense "))
        assert (await reader.read()).startswith(b"HTTP/1.1 400 ")

    on_stage(story)


def test_a_head_without_an_end_is_refused() -> None:
    async def story(_stage: Stage, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"GET / HTTP/1.1\r\nA: " + b"b" * 1000)
        assert (await reader.read()).startswith(b"HTTP/1.1 431 ")

    on_stage(story)


def test_who_stops_in_a_head_or_body_is_told_and_left() -> None:
    async def story(stage: Stage, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await ask(stage, writer, POST + b"ab")
        stage.pass_time(10.0)
        assert (await reader.read()).startswith(b"HTTP/1.1 408 ")
        assert stage.script.is_lost

    on_stage(story)


def test_who_says_nothing_is_told_nothing() -> None:
    async def story(stage: Stage, reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await until(lambda: len(stage.room) == 1)
        stage.pass_time(10.0)
        assert await reader.read() == b""

    on_stage(story)


def test_a_body_that_ends_early_is_refused_and_a_whole_one_answered() -> None:
    async def early(stage: Stage, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await ask(stage, writer, POST + b"ab")
        writer.write_eof()
        assert (await reader.read()).startswith(b"HTTP/1.1 400 ")

    async def whole(stage: Stage, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await ask(stage, writer)
        writer.write_eof()
        await asyncio.sleep(0.01)
        answer(stage, b"late but there")
        assert await reader.read() == b"late but there"

    on_stage(early)
    on_stage(whole)


def test_a_slow_reader_holds_what_it_does_not_read_and_the_application_waits() -> None:
    async def story(stage: Stage, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await ask(stage, writer)
        answer(stage, BIG)
        assert stage.script.is_paused
        assert stage.room.phase(stage.front) is Phase.ANSWERING
        # Each time it read enough, it gets more time.
        read = 0
        for _ in range(3):
            read += len(await reader.readexactly(1 << 20))
            stage.pass_time(10.0)
            assert stage.room.phase(stage.front) is Phase.ANSWERING
        assert await reader.readexactly(len(BIG) - read) == BIG[read:]
        await until(lambda: not stage.script.is_paused)
        stage.pass_time(10.0)
        assert stage.room.phase(stage.front) is Phase.IDLE

    on_stage(story)


def test_a_reader_that_takes_nothing_is_given_up() -> None:
    async def story(stage: Stage, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await ask(stage, writer)
        answer(stage, BIG)
        stage.pass_time(10.0)  # what the kernels' buffers took counts once
        stage.pass_time(10.0)
        assert len(stage.room) == 0
        await until(lambda: stage.script.is_lost)

    on_stage(story)


def test_an_answer_is_followed_by_a_half_close_and_what_comes_late_is_discarded() -> None:
    async def story(stage: Stage, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await ask(stage, writer)
        answer(stage, b"last")
        stage.front.leave()
        writer.write(GET.replace(b"/ ", b"/late "))
        assert await reader.read() == b"last"
        assert b"late" not in stage.script.heard
        assert stage.room.phase(stage.front) is Phase.LEAVING
        stage.pass_time(10.0)
        assert len(stage.room) == 0

    on_stage(story)


def test_a_worker_that_stops_ends_who_is_idle_and_lets_work_end() -> None:
    async def story(stage: Stage, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await ask(stage, writer)
        stage.front.end_idle()
        answer(stage, b"done")
        assert await reader.readexactly(4) == b"done"
        stage.front.end_idle()
        assert await reader.read() == b""

    on_stage(story)


def test_what_is_sent_ahead_begins_after_the_answer() -> None:
    async def story(stage: Stage, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        later = [GET.replace(b"/ ", b"/%d " % number) for number in range(3)]
        writer.write(GET + b"".join(later))
        for number, request in enumerate([GET, *later]):
            await until(lambda: stage.script.heard.endswith(request))  # noqa: B023 - within the round
            answer(stage, b"%d" % number)
            assert await reader.readexactly(1) == b"%d" % number
        await until(lambda: stage.room.phase(stage.front) is Phase.IDLE)

    on_stage(story)


def test_much_that_is_sent_ahead_is_not_read_before_the_answer() -> None:
    async def story(stage: Stage, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await ask(stage, writer)
        ahead = POST.replace(b" 4", b" %d" % len(BIG)) + BIG
        writer.write(ahead)
        await until(lambda: stage.front.pausing.is_paused)
        assert stage.script.heard == GET
        answer(stage, b"first")
        assert await reader.readexactly(5) == b"first"
        await until(lambda: len(stage.script.heard) == len(GET + ahead))
        answer(stage, b"second")
        assert await reader.readexactly(6) == b"second"

    on_stage(story)


def test_what_is_answered_before_its_end_is_followed_by_the_next() -> None:
    async def story(stage: Stage, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await ask(stage, writer, POST + b"ab")
        answer(stage, b"too soon")
        assert await reader.readexactly(8) == b"too soon"
        writer.write(b"cd" + GET)
        await until(lambda: stage.script.heard == POST + b"abcd" + GET)
        answer(stage, b"next")
        assert await reader.readexactly(4) == b"next"

    on_stage(story)


def test_what_is_no_request_never_gets_to_the_http() -> None:
    async def story(stage: Stage, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await ask(stage, writer)
        writer.write(b"GET / HTTP/1.1\r\nHost : x\r\n\r\n" + GET)
        answer(stage, b"first ")
        assert (await reader.read()).startswith(b"first HTTP/1.1 400 ")
        assert stage.script.heard == GET

    on_stage(story)


def test_who_is_cut_off_in_the_middle_of_a_request_is_answered_and_left() -> None:
    """Who revokes its own certificate hears that it did."""

    async def story(stage: Stage, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await ask(stage, writer)
        stage.front.cut()
        answer(stage, b"done")
        assert await reader.read() == b"done"

    on_stage(story)


def test_who_is_cut_off_while_idle_is_gone_at_once() -> None:
    async def story(stage: Stage, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await ask(stage, writer)
        answer(stage, b"done")
        assert await reader.readexactly(4) == b"done"
        await until(lambda: stage.room.phase(stage.front) is Phase.IDLE)
        stage.front.cut()
        assert len(stage.room) == 0

    on_stage(story)
