"""Reads of the store that are under way: whoever needs the same waits for the same.

Rules:
- One read of a kind at a time. It is nobody's own: it goes on where the request that began it is cancelled.
- Nobody waits longer than `PATIENCE_S` (Busy): a store that hangs holds no request.
- A read that fails, fails for all who wait for it; the next one who asks begins another.

For one event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final, TypeVar

from ostiary.errors import Busy

T = TypeVar("T")

PATIENCE_S: Final = 2.0
"""As long as a front waits for anything (docs/architecture.md, "Channels")."""
_SLOW: Final = "the store does not answer"


class SharedReads:
    """The reads under way, by their kinds."""

    def __init__(self) -> None:
        self._tasks: dict[object, asyncio.Task[Any]] = {}

    def is_under_way(self, kind: object) -> bool:
        """Whether somebody waits for such a read."""
        return kind in self._tasks

    async def read(self, kind: object, begin: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Return what the read of this kind returns, one under way or else one that `begin` begins."""
        task: asyncio.Task[T] | None = self._tasks.get(kind)
        if task is None:
            task = self._tasks[kind] = asyncio.create_task(begin())
            task.add_done_callback(partial(self._ended, kind))
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await asyncio.shield(task)
        except TimeoutError as exc:
            raise Busy(_SLOW) from exc

    async def read_anew(self, kind: object, begin: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Return what a read gives that begins after now."""
        task = self._tasks.get(kind)
        if task is not None:
            # It may have missed what makes the caller ask. Whoever else waits for its end begins the next one
            # or shares it.
            await asyncio.wait((task,), timeout=PATIENCE_S)
            if not task.done():
                raise Busy(_SLOW)
        return await self.read(kind, begin)

    def _ended(self, kind: object, task: asyncio.Task[Any]) -> None:
        if self._tasks.get(kind) is task:
            del self._tasks[kind]
        # Taken, lest asyncio log it where all who waited were cancelled.
        if not task.cancelled():
            task.exception()
