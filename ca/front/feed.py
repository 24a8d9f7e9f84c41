"""The feed of revocations as this worker knows it: one task asks the store, all others wait for that task.

Rules:
- That task asks the store every POLL_S for the feed's newest number (by index) and reads what is new once.
  The newest steps stay in memory, so a thousand waiters cost the store what one costs.
- A revoked certificate is cut off: its open connections to this worker end at once, and its next request
  would be refused anyway.
- Who waits has a seat; there are `max_waiters`, of which one certificate may have SEATS_OF_ONE. Others are
  answered at once and should ask again after PAUSE_S (Retry-After).
- Who asks without waiting is told what the store has now.
- Requests that fill the pool of reads do not hold up that task, which has a thread of its own.

One per worker, for its loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from ca.store.reader import MAX_REVOCATIONS, RevocationStep
from ostiary.certificate import parse_serial_hex
from ostiary.errors import Busy

_log = logging.getLogger("ostiary.ca.front")
# A tenth of the second within which receivers are to know of a revocation.
POLL_S: Final = 0.1
PAUSE_S: Final = 1
# A service has one certificate for all of its workers.
SEATS_OF_ONE: Final = 64
# Waiters that are woken before the loop's other work has its turn.
_WOKEN_AT_ONCE: Final = 64


class RevocationReads(Protocol):
    """How the feed asks the store (ca/front/store_reads.py); Busy where it can't be read."""

    async def last_revocation(self) -> int: ...

    async def revocations_since(self, since: int) -> list[RevocationStep]: ...


class RevocationFeed:
    """See the module's docstring; `run` is the task."""

    def __init__(
        self,
        reads: RevocationReads,
        *,
        watching: RevocationReads,
        cut_off: Callable[[Iterable[int]], int],
        max_waiters: int,
    ) -> None:
        """`reads` is for those who ask, `watching` for the task."""
        self._reads = reads
        self._watching = watching
        self._cut_off = cut_off
        self._max_waiters = max_waiters
        self._newest = 0
        # All steps after `_kept_from`, in order.
        self._kept: list[RevocationStep] = []
        self._kept_from = 0
        self._waiting: set[asyncio.Future[None]] = set()
        self._seats_taken = 0
        # certificate -> how many of them are its own
        self._seats_of: Counter[str] = Counter()

    async def start_at_newest(self) -> None:
        """Take the store's newest number as known: a certificate that was revoked before this worker began
        has no connection to it.
        """
        self._start_over(await self._watching.last_revocation())

    async def run(self) -> None:
        """Follow the store until cancelled."""
        while True:
            await asyncio.sleep(POLL_S)
            try:
                await self.look()
            except Busy as exc:
                _log.warning("feed-unreadable", extra={"problem": exc.message})

    async def look(self) -> None:
        """Ask the store once; tell those who wait what is new."""
        newest = await self._watching.last_revocation()
        if newest < self._newest:
            # The store was restored from a backup.
            self._start_over(newest)
        if newest == self._newest:
            return
        steps = await self._watching.revocations_since(self._newest)
        # Two read transactions: a store that was restored between them may no longer have what the first saw.
        if not steps:
            return
        self._cut_off(parse_serial_hex(step.serial) for step in steps)
        self._keep(steps)
        await self._wake()

    async def since(self, since: int, *, wait_s: float, by: str) -> tuple[int, list[RevocationStep]]:
        """Return the number to ask with next time, and the revocations after `since`.

        Waits up to `wait_s` for the first. `by` is the certificate that asks (its serial number).
        """
        steps = self._kept_after(since)
        if wait_s <= 0 and not steps:
            steps = None
        elif steps == [] and self._has_seat(by):
            await self._wait(since, wait_s, by)
            steps = self._kept_after(since)
        if steps is None:
            steps = await self._reads.revocations_since(since)
        if steps:
            return steps[-1].n, steps
        return await self._end(since), []

    async def _end(self, since: int) -> int:
        # After the CA was restored from a backup a client may be ahead of the feed; it goes on from the
        # feed's end. Or it heard from a worker that looked a moment earlier: the store knows.
        return since if since <= self._newest else min(since, await self._reads.last_revocation())

    # --- the newest steps ---

    def _start_over(self, newest: int) -> None:
        self._newest = self._kept_from = newest
        self._kept = []

    def _keep(self, steps: list[RevocationStep]) -> None:
        kept = self._kept + steps
        if len(kept) > MAX_REVOCATIONS:
            self._kept_from = kept[-MAX_REVOCATIONS - 1].n
        self._kept = kept[-MAX_REVOCATIONS:]
        self._newest = steps[-1].n

    def _kept_after(self, since: int) -> list[RevocationStep] | None:
        """The steps after `since` as far as they are known here; None where only the store has them all."""
        if since < self._kept_from:
            return None
        return self._kept[bisect_right(self._kept, since, key=lambda step: step.n) :]

    # --- those who wait ---

    def _has_seat(self, by: str) -> bool:
        return self._seats_taken < self._max_waiters and self._seats_of[by] < SEATS_OF_ONE

    async def _wait(self, since: int, wait_s: float, by: str) -> None:
        """Wait, on a seat, until a step after `since` is known or the time is over."""
        self._seats_taken += 1
        self._seats_of[by] += 1
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    while self._newest <= since:
                        await self._news()
        finally:
            self._seats_taken -= 1
            self._seats_of[by] -= 1
            if not self._seats_of[by]:
                del self._seats_of[by]

    async def _news(self) -> None:
        news = asyncio.get_running_loop().create_future()
        self._waiting.add(news)
        try:
            await news
        finally:
            self._waiting.discard(news)

    async def _wake(self) -> None:
        # Not all at once: thousands of answers in a row would hold up everybody else's.
        woken, self._waiting = self._waiting, set()
        for count, news in enumerate(list(woken), 1):
            if not news.done():
                news.set_result(None)
            if count % _WOKEN_AT_ONCE == 0:
                await asyncio.sleep(0)
