"""Refusals without an identity: counted by source and reason, recorded once a minute.

Rules:
- An unauthenticated client writes at most one entry a minute per source and reason, however often it asks.
- Sources are bounded too: beyond `MAX_SOURCES` a minute, the rest is counted together under `others`.

Thread-safe; the caller submits what `take` gives.
"""

from __future__ import annotations

import threading
from collections import Counter
from typing import Final

from ostiary.work.ca_items import Refusals

PERIOD_S: Final = 60.0
MAX_SOURCES: Final = 256
_OTHERS: Final = "others"


class RefusalCounter:
    """See the module's docstring."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[tuple[str, str]] = Counter()

    def count(self, *, source: str, reason: str) -> None:
        """Count one refusal of an address."""
        with self._lock:
            known = (source, reason) in self._counts or len(self._counts) < MAX_SOURCES
            self._counts[source if known else _OTHERS, reason] += 1

    def take(self) -> list[Refusals]:
        """The items for what was counted since the last time, in order; starts anew."""
        with self._lock:
            counts, self._counts = self._counts, Counter()
        return [
            Refusals(source=source, reason=reason, count=count)
            for (source, reason), count in sorted(counts.items())
        ]
