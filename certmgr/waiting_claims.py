"""Claims that wait for a certificate: coroutines of the socket's loop, told of news from any thread.

Rules:
- A claim that waits costs a connection and no thread. Still only `MAX_WAITING` do, `MAX_WAITING_OF_USER` of
  them for one user: the socket keeps connections for claims that need not wait (`certmgr.app.LIMITS`), and no
  user takes the waiting of all others.
- Not thread-safe by itself: `certmgr.agents` calls `enter`, `leave` and `tell` under its lock, and so no news
  come between a look at the record and the wait for its next one.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from typing import Final

from ostiary.errors import Busy

MAX_WAITING: Final = 256
MAX_WAITING_OF_USER: Final = 64


class WaitingClaims:
    """Which claims wait for news of which agent."""

    def __init__(self) -> None:
        self._of_user: Counter[int] = Counter()
        self._of_agent: dict[str, set[asyncio.Future[None]]] = {}

    def enter(self, agent: str, uid: int) -> asyncio.Future[None]:
        """Return what the next news of an agent complete; Busy if too many claims wait, or too many of `uid`.

        Call it on the loop, await the future there without the lock, and `leave` in any case.
        """
        if self._of_user.total() >= MAX_WAITING or self._of_user[uid] >= MAX_WAITING_OF_USER:
            raise Busy("too many claims wait for their certificates; retry")
        news: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._of_user[uid] += 1
        self._of_agent.setdefault(agent, set()).add(news)
        return news

    def leave(self, agent: str, uid: int, news: asyncio.Future[None]) -> None:
        """Forget what `enter` returned."""
        self._of_user[uid] -= 1
        if not self._of_user[uid]:
            del self._of_user[uid]
        waiting = self._of_agent[agent]
        waiting.discard(news)
        if not waiting:
            del self._of_agent[agent]

    def tell(self, agent: str) -> None:
        """Wake the claims that wait for this agent; from any thread."""
        for news in self._of_agent.get(agent, ()):
            # The loop has ended before its coroutines: the manager is on its way out.
            with contextlib.suppress(RuntimeError):
                news.get_loop().call_soon_threadsafe(_complete, news)


def _complete(news: asyncio.Future[None]) -> None:
    # Told twice, or given up by its claim meanwhile.
    if not news.done():
        news.set_result(None)
