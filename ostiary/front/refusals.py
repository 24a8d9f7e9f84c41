"""Refusals of clients without an identity: counted, and recorded once a minute for each source and reason.

Rules:
- A flood of strangers must not become a flood of ledger entries: a minute has at most MAX_ROWS of them; the
  rest counts under the source "others".
- A reason is a rule's name of ours, never what the stranger sent.
- Counts that could not be recorded (the recorder is away) stay, and are added to the next minute's.

One per worker, for its loop alone. Whoever stops a worker flushes once more.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final

from ostiary.errors import OstiaryError
from ostiary.work.reports import Refusals

EVERY_S: Final = 60.0
MAX_ROWS: Final = 100
OTHERS: Final = "others"
_log = logging.getLogger("ostiary.front")

Record = Callable[[Refusals], Awaitable[object]]
"""Returns once the item is in the ledger; raises OstiaryError if it is not."""


class RefusalCounter:
    """The counts of this worker since they were last recorded."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()

    def add(self, source: str, reason: str, count: int = 1) -> None:
        """Count refusals of a source (its address)."""
        key = (source, reason)
        # Reasons are a closed list, so the rows of "others" go beyond MAX_ROWS by that list at most.
        if key not in self._counts and len(self._counts) >= MAX_ROWS:
            key = (OTHERS, reason)
        self._counts[key] += count

    async def flush(self, record: Record) -> int:
        """Record the counts and return how many rows were recorded.

        The first failure ends the flush; its row and the rest stay counted, also where it is cancelled.
        """
        # Swapped out, and put back by `add`: requests go on counting meanwhile.
        rows, self._counts = self._counts, Counter()
        recorded = 0
        try:
            for (source, reason), count in list(rows.items()):
                await record(Refusals(source=source, reason=reason, count=count))
                del rows[source, reason]
                recorded += 1
        except OstiaryError as exc:
            _log.warning("refusals-not-recorded", extra={"problem": exc.message})
        finally:
            for (source, reason), count in rows.items():
                self.add(source, reason, count)
        return recorded

    async def run(self, record: Record, *, offset_s: float) -> None:
        """Flush once a minute until cancelled; `offset_s` staggers the workers."""
        await asyncio.sleep(offset_s)
        while True:
            await asyncio.sleep(EVERY_S)
            await self.flush(record)
