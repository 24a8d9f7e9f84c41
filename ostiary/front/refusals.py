"""Refusals of those who have no identity: counted, and recorded once a minute per source and reason (DESIGN
section 9).

Rules:
- A flood of strangers must not become a flood of ledger entries: a minute has at most MAX_ROWS of them, the
  rest is counted together under the source "others".
- A reason is one of ours (a rule's name), never what the stranger sent.
- What could not be recorded (the recorder is away) is counted on.

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
"""Returns once the item is in the ledger; raises OstiaryError where it is not."""


class RefusalCounter:
    """The counts of this worker since they were last recorded."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()

    def add(self, source: str, reason: str, count: int = 1) -> None:
        """Count refusals of a source (its address)."""
        with self._lock:
            key = (source, reason)
            if key not in self._counts and len(self._counts) >= MAX_ROWS:
                key = (OTHERS, reason)
            self._counts[key] += count

    def flush(self, record: Record) -> int:
        """Record what was counted; how many rows were. The first that fails ends it: it and the rest are
        counted on.
        """
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
        """Flush once a minute until stopped, for a thread of its own; `offset_s` keeps the workers of a front
        apart.
        """
        pause_s = EVERY_S + offset_s
        while not stopped.wait(pause_s):
            pause_s = EVERY_S
            self.flush(record)
