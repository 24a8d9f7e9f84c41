"""Counts and stage timings of one role, cheap enough for the hot path, shown as Prometheus text.

    metrics = Metrics(stages=("policy", "sandbox"), counters=("denied",), processes=workers)    # before fork
    metrics.attach(slot)                                                                          # in each worker
    with metrics.stage("policy"): ...                                                             # about 1 µs
    metrics.exposition("ostiary_front")                                                           # all workers' sum

Rules:
- All numbers lie in one anonymous shared mapping made before the fork: a row per worker, so that nobody
  writes another's, and any worker can add up all of them. A restarted worker goes on with the row of the dead
  one, so counters never fall.
- Buckets are powers of two from 16 µs to 16 s, the same everywhere.
- Names are fixed at the start: an unknown one is a KeyError in tests, never a new series in production, and
  no label comes from a client.
- A role without HTTP shows its numbers in a file (`MetricsFile`), as collectors of text files read them.
"""

from __future__ import annotations

import mmap
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final

_BUCKETS: Final = 21
_FIRST_BUCKET_NS: Final = 16_000
# Per stage: buckets (the last one open), sum in ns, count.
_STAGE_WORDS: Final = _BUCKETS + 2
_WORD_BYTES: Final = 8
_SHOW_EVERY_S: Final = 1.0


class Metrics:
    """The numbers of one role; `processes` rows of 64-bit words."""

    def __init__(self, *, stages: Sequence[str], counters: Sequence[str], processes: int) -> None:
        self._stages = {name: index * _STAGE_WORDS for index, name in enumerate(stages)}
        base = len(stages) * _STAGE_WORDS
        self._counters = {name: base + index for index, name in enumerate(counters)}
        self._row_words = base + len(counters)
        self._processes = processes
        self._words = memoryview(mmap.mmap(-1, max(1, processes * self._row_words) * _WORD_BYTES)).cast("Q")
        self._row = 0
        # Threads of one worker share its row; owner of the lock: whoever adds.
        self._lock = threading.Lock()

    def attach(self, slot: int) -> None:
        """Write to row `slot` from now on; call in a worker after the fork."""
        if not 0 <= slot < self._processes:
            raise ValueError(f"slot {slot} of {self._processes}")
        self._lock = threading.Lock()
        self._row = slot * self._row_words

    def stage(self, name: str) -> Stage:
        """A context manager that adds the time of its block to the stage."""
        return Stage(self, self._stages[name])

    def observe(self, name: str, elapsed_ns: int) -> None:
        """Add one measured time to a stage."""
        self.add_time(self._stages[name], elapsed_ns)

    def count(self, name: str, amount: int = 1) -> None:
        """Add to a counter."""
        index = self._row + self._counters[name]
        with self._lock:
            self._words[index] += amount

    def value(self, name: str) -> int:
        """A counter's sum over all workers."""
        return self._sum(self._counters[name])

    def exposition(self, prefix: str) -> bytes:
        """Everything in the Prometheus text format, version 0.0.4; times in seconds."""
        lines: list[str] = []
        if self._stages:
            name = f"{prefix}_stage_seconds"
            lines.append(f"# TYPE {name} histogram")
            for stage, offset in self._stages.items():
                lines.extend(self._stage_lines(name, stage, offset))
        for counter, offset in self._counters.items():
            lines.append(f"# TYPE {prefix}_{counter}_total counter")
            lines.append(f"{prefix}_{counter}_total {self._sum(offset)}")
        return ("\n".join(lines) + "\n").encode("ascii")

    def add_time(self, offset: int, elapsed_ns: int) -> None:
        """For `Stage`: add one time to the stage at `offset`."""
        bucket = min((elapsed_ns // _FIRST_BUCKET_NS).bit_length(), _BUCKETS - 1)
        start = self._row + offset
        words = self._words
        with self._lock:
            words[start + bucket] += 1
            words[start + _BUCKETS] += elapsed_ns
            words[start + _BUCKETS + 1] += 1

    def _stage_lines(self, name: str, stage: str, offset: int) -> list[str]:
        lines = []
        below = 0
        for bucket in range(_BUCKETS - 1):
            below += self._sum(offset + bucket)
            bound_s = (_FIRST_BUCKET_NS << bucket) / 1e9
            lines.append(f'{name}_bucket{{stage="{stage}",le="{bound_s:g}"}} {below}')
        count = self._sum(offset + _BUCKETS + 1)
        lines.append(f'{name}_bucket{{stage="{stage}",le="+Inf"}} {below + self._sum(offset + _BUCKETS - 1)}')
        lines.append(f'{name}_sum{{stage="{stage}"}} {self._sum(offset + _BUCKETS) / 1e9:.9f}')
        lines.append(f'{name}_count{{stage="{stage}"}} {count}')
        return lines

    def _sum(self, offset: int) -> int:
        return sum(self._words[row * self._row_words + offset] for row in range(self._processes))


class MetricsFile:
    """One role's numbers in a file, replaced whole once a second at most; nobody needs it to survive a power
    cut.
    """

    def __init__(self, path: Path, metrics: Metrics, *, prefix: str) -> None:
        self._path = path
        self._metrics = metrics
        self._prefix = prefix
        self._next_s = 0.0

    def show(self) -> None:
        """Call often; writes when it is time to."""
        now_s = time.monotonic()
        if now_s < self._next_s:
            return
        self._next_s = now_s + _SHOW_EVERY_S
        temporary = self._path.with_name(f".{self._path.name}")
        temporary.write_bytes(self._metrics.exposition(self._prefix))
        temporary.rename(self._path)


class Stage:
    """Times one block; made by `Metrics.stage`."""

    __slots__ = ("_metrics", "_offset", "_started_ns")

    def __init__(self, metrics: Metrics, offset: int) -> None:
        self._metrics = metrics
        self._offset = offset
        self._started_ns = 0

    def __enter__(self) -> None:
        self._started_ns = time.perf_counter_ns()

    def __exit__(
        self, _kind: type[BaseException] | None, _exc: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._metrics.add_time(self._offset, time.perf_counter_ns() - self._started_ns)
