"""A small pool of threads for what must block, such as reading a store: the event loop itself never waits.

Rules:
- At most `threads` calls run and at most `waiting` wait; one more is Busy. A slow disk fills the pool, and
  the loop goes on answering what needs no store.
- A call that nobody waits for any more (its client left) still runs to its end, and counts until then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from ostiary.errors import Busy

P = ParamSpec("P")
T = TypeVar("T")


class Offload:
    """See the module's docstring. Made on the loop, in the worker that uses it."""

    def __init__(self, *, threads: int, waiting: int = 256) -> None:
        self._pool = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="offload")
        self._free = threads + waiting

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what `function` returns, from a thread of the pool; raises what it raises, or Busy."""
        if self._free <= 0:
            raise Busy("too many reads wait")
        self._free -= 1
        future = self._pool.submit(function, *args, **kwargs)
        # asyncio's `run_in_executor` cancels the call that a cancelled caller no longer wants, but tells
        # nobody when one that had begun ends: so the count hangs on the call itself.
        loop = asyncio.get_running_loop()
        future.add_done_callback(lambda _done: _tell(loop, self._returned))
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Let the calls that run end, drop those that wait."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _returned(self) -> None:
        self._free += 1


def _tell(loop: asyncio.AbstractEventLoop, news: Callable[[], None]) -> None:
    # A call may end after its loop: the worker is on its way out.
    if not loop.is_closed():
        loop.call_soon_threadsafe(news)
