"""Refusals of clients without an identity: counted, and recorded once a minute for each source and reason.

Rules:
- A flood of strangers must not become a flood of ledger entries: a minute has at most MAX_ROWS of them; the
  rest counts under the source "others".
- A reason is a rule's name of ours, never what the stranger sent.
- Counts that could not be recorded (the recorder is away) stay, and are added to the next minute's.

Thread-safe; one per worker. Whoever stops a worker flushes once more.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import Final

from ostiary.errors import OstiaryError
from ostiary.work.reports import Refusals

EVERY_S: Final = 60.0
MAX_ROWS: Final = 100
OTHERS: Final = "others"

Record = Callable[[Refusals], object]
"""Returns once the item is in the ledger; raises OstiaryError if it is not."""


class RefusalCounter:
    """The counts of this worker since they were last recorded."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()
        # Requests add, one thread flushes. Never held while the recorder is asked: that may take a second.
        self._lock = threading.Lock()

    def add(self, source: str, reason: str, count: int = 1) -> None:
        """Count refusals of a source (its address)."""
        with self._lock:
            key = (source, reason)
            # Reasons are a closed list, so the rows of "others" go beyond MAX_ROWS by that list at most.
            if key not in self._counts and len(self._counts) >= MAX_ROWS:
                key = (OTHERS, reason)
            self._counts[key] += count

    def flush(self, record: Record) -> int:
        """Record the counts and return how many rows were recorded.

        The first failure ends the flush; its row and the rest stay counted.
        """
        # Swapped out under the lock and put back by `add`, so that a refusal of the meantime is never lost.
        with self._lock:
            rows, self._counts = self._counts, Counter()
        recorded = 0
        for (source, reason), count in list(rows.items()):
            try:
                record(Refusals(source=source, reason=reason, count=count))
            except OstiaryError:
                break
            del rows[source, reason]
            recorded += 1
        for (source, reason), count in rows.items():
            self.add(source, reason, count)
        return recorded

    def run(self, record: Record, stopped: threading.Event, *, offset_s: float) -> None:
        """Flush once a minute until stopped, in a thread of its own; `offset_s` staggers the workers."""
        pause_s = EVERY_S + offset_s
        while not stopped.wait(pause_s):
            pause_s = EVERY_S
            self.flush(record)
