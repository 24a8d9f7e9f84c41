"""The only place that asks what time it is; cores get `now` as an argument.

`Clock` is the port that roots hand around; `SystemClock` the world's. Deadlines between processes of one host
are CLOCK_MONOTONIC nanoseconds (`ostiary.edge.channel`); what is recorded is UTC.
"""

from __future__ import annotations

import datetime as dt
import time
from typing import Protocol


class Clock(Protocol):
    """Time for edges and roots. Never goes back in `monotonic_ns`; `now` may, when somebody sets the
    machine's clock.
    """

    def now(self) -> dt.datetime:
        """Aware, UTC."""
        ...

    def epoch_ms(self) -> int: ...

    def monotonic_ns(self) -> int: ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> dt.datetime:
        return dt.datetime.now(dt.UTC)

    def epoch_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic_ns(self) -> int:
        return time.monotonic_ns()
