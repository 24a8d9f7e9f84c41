"""Which worker serves whom: made, taken, given back or ended; and how one is asked.

Rules:
- A worker serves one module version and one request at a time.
- It is ended after any violation, after `CALLS_PER_WORKER` calls or `BUSY_S_PER_WORKER` of work; the zygote's
  spare takes its place at once.
- The number of workers is bounded, and so is the number of calls that wait for one. Idle workers of the
  module longest unused make room for another module.
- A place is free again when the zygote has said that its worker is gone.
- What a cancelled caller asked runs on to its answer or its deadline, and is then judged as for a caller.

For one event loop, on whose thread everything is called.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, NewType, TypeVar

from credsvc.sandbox.client.control import (
    NOBODY_KNOWS,
    NOT_YET_KNOWN,
    SpawnedWorker,
    ZygoteClient,
    ZygoteUnavailable,
)
from credsvc.sandbox.client.faults import Fault, SandboxFault, SourceRefused, fault
from credsvc.sandbox.client.link import Link
from credsvc.sandbox.client.messages import Reply, encode_source, read_load
from credsvc.sandbox.frames import Kind

__all__ = ["CHECKED", "LoadedModule", "ModuleDigest", "Workers"]

T = TypeVar("T")
ModuleDigest = NewType("ModuleDigest", str)

CHECKED: Final = ModuleDigest("0" * 64)
"""Of a source that is only looked at: such a worker is never kept, since the next source is another one."""
CALLS_PER_WORKER: Final = 10_000
# Well below the worker's own CPU backstop (privileges.CPU_BACKSTOP_S), which would end it in somebody's call.
BUSY_S_PER_WORKER: Final = 60.0
# Each holds its request in memory. More than all workers could answer before the first ones' deadlines.
MAX_WAITING: Final = 1024
# A freed worker goes to the next call of its own module, unless another has waited longer than this: a worker
# for another module costs the zygote 5 ms, which is a tenth.
_TURN_S: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModule:
    """One version of a credential module: SHA-256 of it in hex, and its Python source."""

    digest: ModuleDigest
    source: str


@dataclass(slots=True, eq=False)
class _Waiting:
    """A call for which there is no place; it is given an idle worker of its module, or a place (None)."""

    digest: ModuleDigest
    since: float
    given: asyncio.Future[Link | None]


class Workers:
    """See the module's docstring."""

    def __init__(self, control_path: Path, *, max_workers: int) -> None:
        self._zygote = ZygoteClient(control_path)
        self._max_workers = max_workers
        # Modules that have idle workers, in order of last use, oldest first.
        self._idle: OrderedDict[str, list[Link]] = OrderedDict()
        self._links: set[Link] = set()  # all of them
        self._count = 0
        # Nobody waits while a worker is idle or a place free.
        self._waiting: deque[_Waiting] = deque()
        self._closed = False

    async def take(self, module: LoadedModule, deadline: float) -> Link:
        """Return a healthy worker that has the module loaded, and is the caller's until it gives it back.

        Raises `SourceRefused`, or `SandboxFault` at `deadline` (the loop's time) or before.
        """
        while True:
            link = self._pop_idle(module.digest)
            if link is None and not self._reserve():
                link = await self._wait(module.digest, deadline)
            if link is None:
                return await self._load(module, deadline)
            if link.is_quiet():
                return link
            self.end(link)  # it died, or said something that nobody asked for

    async def ask(
        self,
        link: Link,
        kind: Kind,
        body: bytes,
        deadline: float,
        read: Callable[[list[Reply]], T],
        *,
        count: int = 1,
        item_s: float | None = None,
    ) -> T:
        """Ask once and return what `read` makes of the answers, with the link still the caller's; where it
        raises, the link was given back or ended. Other arguments are those of `Link.ask`.
        """
        answer = link.ask(kind, body, deadline, count=count, item_s=item_s)
        try:
            return read(await answer)
        except asyncio.CancelledError:
            link.orphan().add_done_callback(partial(self._settle, link, read))
            raise
        except SandboxFault as exc:
            # An exception is an ordinary answer; after anything else the worker may no longer be ours.
            if exc.fault is Fault.MODULE_RAISED:
                self.give_back(link)
            else:
                await self._end_faulty(link, exc)
            raise
        except BaseException:
            self.end(link)
            raise

    def give_back(self, link: Link) -> None:
        """Keep a worker for the next call, unless it has done enough."""
        if self._has_done_enough(link):
            self.end(link)
            return
        waiting = self._next(link.digest)
        if waiting is None:
            self._idle.setdefault(link.digest, []).append(link)
            self._idle.move_to_end(link.digest)
        elif waiting.digest == link.digest:
            waiting.given.set_result(link)
        else:
            self._evict(link)
            waiting.given.set_result(None)

    def end(self, link: Link) -> asyncio.Future[int]:
        """Have a worker killed. The future, of its wait status, must not be cancelled."""
        link.unwatch()
        killed = self._zygote.kill(link.worker_id)
        killed.add_done_callback(partial(self._bury, link))
        return killed

    async def close(self) -> None:
        """End all workers; a call in flight, or that waits, is told that the sandbox is not there."""
        self._closed = True
        self._idle.clear()
        for link in self._links:
            link.close()
        while self._waiting:
            given = self._waiting.popleft().given
            if not given.done():
                given.set_exception(fault(Fault.UNAVAILABLE))
        self._zygote.close()
        await asyncio.sleep(0)  # in which they are

    # Finding one.

    def _pop_idle(self, digest: ModuleDigest) -> Link | None:
        links = self._idle.get(digest)
        return None if links is None else self._take_from(links, digest, -1)

    def _take_from(self, links: list[Link], digest: str, index: int) -> Link:
        link = links.pop(index)
        if not links:
            del self._idle[digest]
        return link

    def _reserve(self) -> bool:
        """Take a place for a new worker, if need be of one that is idle."""
        if self._count < self._max_workers:
            self._count += 1
            return True
        if not self._idle:
            return False
        digest, links = next(iter(self._idle.items()))
        self._evict(self._take_from(links, digest, 0))
        return True

    async def _wait(self, digest: ModuleDigest, deadline: float) -> Link | None:
        """Return an idle worker, or None for a reserved place; raises `Fault.FULL` at the deadline."""
        if len(self._waiting) >= MAX_WAITING:
            raise fault(Fault.FULL)
        loop = asyncio.get_running_loop()
        waiting = _Waiting(digest, loop.time(), loop.create_future())
        self._waiting.append(waiting)
        timer = loop.call_at(deadline, self._give_up, waiting)
        try:
            return await waiting.given
        except asyncio.CancelledError:
            self._leave_queue(waiting)
            raise
        finally:
            timer.cancel()

    def _give_up(self, waiting: _Waiting) -> None:
        if not waiting.given.done():
            self._waiting.remove(waiting)
            waiting.given.set_exception(fault(Fault.FULL))

    def _leave_queue(self, waiting: _Waiting) -> None:
        """Take a cancelled call out of the queue; what it was given at the same moment goes to the next."""
        if waiting.given.cancelled():
            with contextlib.suppress(ValueError):
                self._waiting.remove(waiting)
        elif waiting.given.exception() is None:
            link = waiting.given.result()
            if link is None:
                self._release_place()
            else:
                self.give_back(link)

    # Making one.

    async def _load(self, module: LoadedModule, deadline: float) -> Link:
        """Make a worker in a reserved place."""
        try:
            source = encode_source(module.source)
        except SourceRefused:
            self._release_place()
            raise
        link = await self._spawn(module.digest, deadline)
        await self.ask(link, Kind.LOAD, source, deadline, read_load)
        return link

    async def _spawn(self, digest: ModuleDigest, deadline: float) -> Link:
        spawned = self._zygote.spawn(digest)
        try:
            # Not wait_for: the question stays asked, and the place taken, until the zygote has answered.
            done, _ = await asyncio.wait({spawned}, timeout=deadline - asyncio.get_running_loop().time())
        except asyncio.CancelledError:
            spawned.add_done_callback(partial(self._discard, digest))
            raise
        if not done:
            spawned.add_done_callback(partial(self._discard, digest))
            raise fault(Fault.UNAVAILABLE)
        try:
            return self._link(spawned.result(), digest)
        except ZygoteUnavailable as exc:
            self._release_place()
            raise fault(Fault.UNAVAILABLE) from exc

    def _link(self, spawned: SpawnedWorker, digest: str) -> Link:
        link = Link(spawned, digest, on_noise=self._on_noise)
        self._links.add(link)
        return link

    def _discard(self, digest: ModuleDigest, spawned: asyncio.Future[SpawnedWorker]) -> None:
        """End a worker that came when its caller had left."""
        if spawned.exception() is None:
            self.end(self._link(spawned.result(), digest))
        else:
            self._release_place()

    # What became of one.

    def _has_done_enough(self, link: Link) -> bool:
        if self._closed or link.digest == CHECKED:
            return True
        return link.calls >= CALLS_PER_WORKER or link.busy_s >= BUSY_S_PER_WORKER

    def _settle(
        self, link: Link, read: Callable[[list[Reply]], object], answer: asyncio.Future[list[Reply]]
    ) -> None:
        """Judge an answer that nobody waits for any more."""
        try:
            read(answer.result())
        except SandboxFault as exc:
            if exc.fault is not Fault.MODULE_RAISED:
                self.end(link)
                return
        except SourceRefused:
            self.end(link)
            return
        self.give_back(link)

    def _next(self, digest: str | None) -> _Waiting | None:
        """Take the call out of the queue that gets the worker of this module that is free, or the place
        (None).
        """
        while self._waiting and self._waiting[0].given.done():  # cancelled, and about to notice
            self._waiting.popleft()
        if not self._waiting:
            return None
        chosen = first = self._waiting[0]
        if digest is not None and asyncio.get_running_loop().time() - first.since < _TURN_S:
            of_module = (each for each in self._waiting if each.digest == digest and not each.given.done())
            chosen = next(of_module, first)
        self._waiting.remove(chosen)
        return chosen

    def _on_noise(self, link: Link) -> None:
        """A worker ended, or spoke unasked; one that is not idle is looked at by whoever has it."""
        links = self._idle.get(link.digest, [])
        if link in links:
            self._take_from(links, link.digest, links.index(link))
            self.end(link)

    def _bury(self, link: Link, _killed: asyncio.Future[int]) -> None:
        self._forget(link)
        self._release_place()

    def _forget(self, link: Link) -> None:
        link.close()
        self._links.discard(link)

    def _evict(self, link: Link) -> None:
        """Have an idle worker killed for its place: what the zygote is asked next, it does after that."""
        link.unwatch()
        self._zygote.kill(link.worker_id).add_done_callback(lambda _killed: self._forget(link))

    async def _end_faulty(self, link: Link, exc: SandboxFault) -> None:
        """End a worker after a fault; raises `Fault.UNAVAILABLE` where its zygote went, or is late to say how
        the worker ended: then nobody knows that it was the module's doing.
        """
        status = await asyncio.shield(self.end(link))
        if exc.fault is Fault.CRASHED and status in {NOBODY_KNOWS, NOT_YET_KNOWN}:
            raise fault(Fault.UNAVAILABLE) from exc

    def _release_place(self) -> None:
        waiting = self._next(None)
        if waiting is None:
            self._count -= 1
        else:
            waiting.given.set_result(None)
