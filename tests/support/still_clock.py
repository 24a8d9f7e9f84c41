"""A clock that stands still until it is told."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from tests.support.certificates import NOW


@dataclass
class ClockForTests:
    """Stands still until told."""

    at: datetime = NOW

    def now(self) -> datetime:
        return self.at

    def epoch_ms(self) -> int:
        return int(self.at.timestamp() * 1000)

    def monotonic_ns(self) -> int:
        return int(self.at.timestamp() * 1_000_000_000)

    def later(self, **span: float) -> None:
        self.at += timedelta(**span)
