"""A gunicorn worker whose event loop serves connections of our own making.

It overrides one private method of `gunicorn.workers.gasgi`, the one that makes the servers and runs the loop;
gunicorn's major version is pinned, and tests/integration/test_front.py tests what the override is for.

Plan of a worker's life:
1. Start what the role serves (`Front.start`): certificates, channels, the application.
2. Begin its background tasks. One that ends, ends the worker: a front that no longer hears of revocations
   must not serve.
3. Accept connections, announce readiness.
4. Every `_SWEEP_S`: show the arbiter a sign of life, end what took too long.
5. Stop accepting, end idle connections, let requests in flight end for `stop_s`.
6. Stop the background tasks; close what `Front.start` opened.
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import socket
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, cast

import falcon.asgi
from gunicorn.arbiter import Arbiter
from gunicorn.asgi.protocol import ASGIProtocol
from gunicorn.workers.gasgi import ASGIWorker

from ostiary.edge.role import announce_ready, die_with_parent
from ostiary.errors import OstiaryError
from ostiary.front.connection import FrontConnection
from ostiary.front.door import Door
from ostiary.front.exchange import ASGIApplication, Exchanges
from ostiary.front.http_side import HTTPSide
from ostiary.front.room import Phase, Room, RoomLimits
from ostiary.front.tls import FrontTLS

_log = logging.getLogger("ostiary.front")
_SWEEP_S: Final = 0.25
_SIGN_OF_LIFE_S: Final = 1.0
# Descriptors that are no client's: stores, channels, listeners, logs.
_OTHER_DESCRIPTORS: Final = 192


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one client may cost; generous for machines, tight for attackers.

    Of connections and of bytes held for them (received but not served, answered but not read) a source may
    have half.
    """

    request_line_bytes: int = 4094
    header_fields: int = 48
    header_field_bytes: int = 8190
    max_head_bytes: int = 32 << 10
    # Handshake and head together, from accept; a later head from its first byte.
    head_s: float = 5.0
    # For a request's body, and again for reading its answer.
    exchange_s: float = 15.0
    # Longer than the longest poll: whoever works longer than this is stuck.
    work_s: float = 90.0
    keepalive_s: int = 60
    leave_s: float = 2.0
    connections: int = 4096
    held_bytes: int = 64 << 20
    stop_s: int = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What one worker serves.

    `tls` is called once per connection; None serves plain connections. `tasks` run beside requests until they
    are cancelled. `close` is awaited after the last request.
    """

    app: falcon.asgi.App[Any, Any]
    tls: Callable[[], FrontTLS] | None
    tasks: Mapping[str, Callable[[], Coroutine[Any, Any, None]]] = field(default_factory=dict)
    close: Callable[[], Awaitable[None]] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Front:
    """One front: its listeners, and what its workers serve.

    `start` is awaited in each worker after the fork, on its loop, with the worker's slot (0 to workers - 1,
    reused after a death). Make channel clients and attach metrics there: what is made before the fork is
    shared.
    """

    listeners: list[socket.socket]
    start: Callable[[int], Awaitable[Served]]
    workers: int
    limits: Limits = field(default_factory=Limits)
    # (uid, gid) that the workers change to if the role was started as root to bind a low port.
    drop_to: tuple[int, int] | None = None


class FrontWorker(ASGIWorker):  # type: ignore[misc] # gunicorn has no types
    """The worker. `run_front` sets `front` before the first fork."""

    front: ClassVar[Front]
    slot: int
    alive: bool

    def load_wsgi(self) -> None:
        # gunicorn may have changed the user since post_fork, and that clears the setting (prctl(2),
        # PR_SET_PDEATHSIG).
        die_with_parent(self.ppid)
        super().load_wsgi()

    async def _serve(self) -> None:
        self.loop.set_exception_handler(_log_escaped)
        served = await self._start()  # 1.
        tasks = [self._begin(name, work) for name, work in served.tasks.items()]  # 2.
        room: Room[FrontConnection] = Room(room_limits(self.front.limits))
        self.servers = await self._accept(served, room)  # 3.
        announce_ready()
        await self._keep_going(room)  # 4.
        await self._let_end(room)  # 5.
        for task in tasks:  # 6.
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if served.close is not None:
            await served.close()

    async def _start(self) -> Served:
        try:
            return await self.front.start(self.slot)
        except OstiaryError as exc:
            # The arbiter ends with this status, and the supervisor starts the role again.
            _log.error("front-does-not-start", extra={"problem": exc.message})
            raise SystemExit(Arbiter.WORKER_BOOT_ERROR) from exc

    def _begin(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> asyncio.Task[None]:
        task: asyncio.Task[None] = self.loop.create_task(work(), name=name)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or not self.alive:
            return
        error = task.exception()
        _log.error("front-task-ended", extra={"task": task.get_name(), "error": type(error).__name__})
        self.alive = False

    async def _accept(self, served: Served, room: Room[FrontConnection]) -> list[asyncio.Server]:
        limits = self.front.limits
        # falcon types its scope and events more narrowly than ASGI: it is the same protocol.
        application = cast("ASGIApplication", served.app)

        def serve(connection: FrontConnection) -> HTTPSide:
            protocol = ASGIProtocol(self)
            protocol.app = Exchanges(application, connection)
            return HTTPSide(connection, protocol)

        door = Door(
            room=room,
            tls=served.tls,
            max_head_bytes=limits.max_head_bytes,
            max_line_bytes=limits.request_line_bytes,
            answer_s=limits.exchange_s,
            clock=self.loop.time,
            serve=serve,
        )
        return [
            await self.loop.create_server(lambda: FrontConnection(door), sock=listener.sock)
            for listener in self.sockets
        ]

    async def _keep_going(self, room: Room[FrontConnection]) -> None:
        next_sign_s = 0.0
        while self.alive and self.ppid == os.getppid():
            now_s = self.loop.time()
            for connection in room.expired(now_s):
                _expire(connection)
            if now_s >= next_sign_s:
                next_sign_s = now_s + _SIGN_OF_LIFE_S
                self.notify()
            await asyncio.sleep(_SWEEP_S)

    async def _let_end(self, room: Room[FrontConnection]) -> None:
        for server in self.servers:
            server.close()
        until_s = self.loop.time() + self.front.limits.stop_s
        while len(room) and self.loop.time() < until_s:
            for connection in room:
                connection.end_idle()
            for connection in room.expired(self.loop.time()):
                _expire(connection)
            await asyncio.sleep(_SWEEP_S / 5)
        for connection in room:
            connection.end_now()


def _expire(connection: FrontConnection) -> None:
    try:
        connection.expire()
    except Exception as exc:  # noqa: BLE001 - one connection's fault must not end the others'
        _log.error("connection-not-expired", extra={"error": type(exc).__name__})
        connection.end_now()


def room_limits(limits: Limits) -> RoomLimits:
    """What this process has room for: no more connections than the kernel lets it have descriptors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = limits.connections + _OTHER_DESCRIPTORS
    if soft < wanted:
        soft = min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    connections = max(1, min(limits.connections, soft - _OTHER_DESCRIPTORS))
    return RoomLimits(
        connections=connections,
        source_connections=max(1, connections // 2),
        held_bytes=limits.held_bytes,
        source_held_bytes=limits.held_bytes // 2,
        seconds={
            Phase.ARRIVING: limits.head_s,
            Phase.ASKING: limits.exchange_s,
            Phase.WORKING: limits.work_s,
            Phase.ANSWERING: limits.exchange_s,
            Phase.IDLE: limits.keepalive_s,
            Phase.LEAVING: limits.leave_s,
        },
    )


def _log_escaped(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log what escaped a callback or task by its type: its message may quote a request."""
    error = context.get("exception")
    _log.error("escaped-exception", extra={"error": type(error).__name__ if error else "none"})
