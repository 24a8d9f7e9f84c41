"""The clock that a composition root hands to its parts.

Rules:
- Pure packages ask no clock: they get `now` as an argument (docs/architecture.md, "Rules of import").
  tests/test_architecture.py lists them and reads their calls.
- A part that compares moments of the calendar over its life (validity, freshness, renewal) gets a `Clock`, so
  that a test can hand it another.
- A process folder or a command may call `time` itself: for a deadline of its own (monotonic), or to stamp one
  fact with the wall clock. So does `certmgr.client`, which agents import and which imports nothing of ours
  but `keyutils`.
- Deadlines between processes of one host are CLOCK_MONOTONIC nanoseconds (`ostiary.edge.channel`); every
  record is in UTC.
"""

from __future__ import annotations

import datetime as dt
import time
from typing import Protocol


class Clock(Protocol):
    """Time for edges and roots."""

    # May step back when somebody, or NTP, sets the machine's clock (clock_settime(2)).
    def now(self) -> dt.datetime:
        """The time as an aware datetime in UTC."""
        ...

    def epoch_ms(self) -> int:
        """The time as milliseconds since 1970, as RFC 6962 and the ledger count."""
        ...

    # Never steps back, and is the same for all processes of the host, which its deadlines rely on.
    def monotonic_ns(self) -> int:
        """Nanoseconds since some moment before the start of this process."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> dt.datetime:
        return dt.datetime.now(dt.UTC)

    def epoch_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic_ns(self) -> int:
        return time.monotonic_ns()
