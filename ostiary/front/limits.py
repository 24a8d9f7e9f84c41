"""How often somebody may ask: token buckets in memory, one table per worker. Time is an argument.

Rules:
- A bucket holds `burst` tokens and gains `rate_per_s`; who finds it empty is told how long to wait.
- The table is bounded: what took nothing for the longest time is forgotten first, empty or not. A forgotten
  source starts with a full bucket, so an attacker with many addresses gains what many addresses are worth
  anyway.

What is *not* here: which of a service's buckets a request takes from (ca/front/doorkeeper.py,
credsvc/front/doorkeeper.py), and what is answered to who must wait (`ostiary.front.http.check_pace`).
"""

from __future__ import annotations

import threading
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A rate and what may come at once."""

    rate_per_s: float
    burst: int


class Buckets:
    """One bucket per key, made at its first use. Thread-safe; owner of the lock: whoever takes."""

    def __init__(self, limit: Limit, *, max_keys: int = 10_000) -> None:
        self._limit = limit
        self._max_keys = max_keys
        # key -> (tokens, when that was, ns); in order of last use
        self._levels: dict[str, tuple[float, int]] = {}
        self._lock = threading.Lock()

    def take(self, key: str, *, now_ns: int) -> float:
        """Take a token: 0.0, or the seconds to wait until there is one (and nothing was taken)."""
        with self._lock:
            level = self._level(key, now_ns)
            if level < 1.0:
                return (1.0 - level) / self._limit.rate_per_s
            self._levels.pop(key, None)
            self._levels[key] = (level - 1.0, now_ns)
            if len(self._levels) > self._max_keys:
                self._levels.pop(next(iter(self._levels)))
            return 0.0

    def wait_s(self, key: str, *, now_ns: int) -> float:
        """The seconds to wait until a token is there, 0.0 if one is; takes nothing."""
        with self._lock:
            return max(0.0, (1.0 - self._level(key, now_ns)) / self._limit.rate_per_s)

    def _level(self, key: str, now_ns: int) -> float:
        tokens, since_ns = self._levels.get(key, (float(self._limit.burst), now_ns))
        gained = max(0, now_ns - since_ns) / 1e9 * self._limit.rate_per_s
        return min(float(self._limit.burst), tokens + gained)
