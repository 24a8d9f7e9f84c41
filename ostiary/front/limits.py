"""Rate limits: token buckets in memory, one table per worker, for its loop alone. Time is an argument.

Rules:
- A bucket holds `burst` tokens and gains `rate_per_s`; an empty one says how long to wait.
- The table is bounded: the bucket that gave no token for the longest time is dropped first, empty or not. A
  dropped source starts again with a full bucket, so an attacker with many addresses gains what many addresses
  are worth anyway.

Not here: which bucket a request takes from (ca/front/doorkeeper.py, credsvc/front/doorkeeper.py), and the
response to a client that must wait (`ostiary.front.http.check_pace`).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A rate, and the most that may come at once."""

    rate_per_s: float
    burst: int


class Buckets:
    """One bucket for each key, made at its first use."""

    def __init__(self, limit: Limit, *, max_keys: int = 10_000) -> None:
        self._limit = limit
        self._max_keys = max_keys
        # key -> (tokens, the moment of that count in ns), in the order of the last token taken: a dict keeps
        # the order of insertion, and `take` inserts anew. Refills are computed when somebody asks, so an idle
        # bucket costs nothing but its row.
        self._levels: dict[str, tuple[float, int]] = {}

    def take(self, key: str, *, now_ns: int) -> float:
        """Take a token and return 0.0, or take none and return the seconds until there is one."""
        level = self._level(key, now_ns)
        if level < 1.0:
            return (1.0 - level) / self._limit.rate_per_s
        self._levels.pop(key, None)
        self._levels[key] = (level - 1.0, now_ns)
        if len(self._levels) > self._max_keys:
            self._levels.pop(next(iter(self._levels)))
        return 0.0

    def wait_s(self, key: str, *, now_ns: int) -> float:
        """Return the seconds until there is a token, 0.0 if there is one; takes none."""
        return max(0.0, (1.0 - self._level(key, now_ns)) / self._limit.rate_per_s)

    def _level(self, key: str, now_ns: int) -> float:
        tokens, since_ns = self._levels.get(key, (float(self._limit.burst), now_ns))
        gained = max(0, now_ns - since_ns) / 1e9 * self._limit.rate_per_s
        return min(float(self._limit.burst), tokens + gained)
