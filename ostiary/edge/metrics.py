"""Counters and stage timings of one role, cheap enough for the hot path, as Prometheus text.

    # before the fork
    metrics = Metrics(stages=("policy", "sandbox"), counters=("denied",), processes=workers)
    metrics.attach(slot)                 # in each worker
    with metrics.stage("policy"): ...    # about 1 µs
    metrics.exposition("ostiary_front")  # the sum over all workers

Rules:
- All numbers lie in one anonymous shared mapping, made before the fork, with a row per worker. No worker
  writes another's row, and any worker can sum them. A restarted worker continues the row of its predecessor,
  so counters never fall.
- Buckets are powers of two from 16 µs to 16 s, the same everywhere.
- Names are fixed at the start: an unknown one is a KeyError in tests, never a new series in production. No
  label comes from a client.
- A role without HTTP writes its numbers to a file (`MetricsFile`) that a textfile collector reads.
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
# A row, in 64-bit words: for each stage its buckets (the last one open-ended), the sum in ns and the count;
# then one word for each counter.
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
        # Threads of one worker share its row, and += on a memoryview is a read and a write. Whoever adds
        # holds the lock; readers go without, since an aligned 64-bit word is never seen half-written.
        self._lock = threading.Lock()

    def attach(self, slot: int) -> None:
        """Write to row `slot` from now on; call in a worker after the fork."""
        if not 0 <= slot < self._processes:
            raise ValueError(f"slot {slot} of {self._processes}")
        # A fresh one: the fork may have copied a lock that another thread held.
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
        """Return everything in the Prometheus text format, version 0.0.4; times in seconds."""
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
        # The bit length is the base-2 logarithm: one integer operation instead of a search for the bucket.
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
    """One role's metrics in a file, replaced as a whole at most once a second."""

    def __init__(self, path: Path, metrics: Metrics, *, prefix: str) -> None:
        self._path = path
        self._metrics = metrics
        self._prefix = prefix
        self._next_s = 0.0

    def show(self) -> None:
        """Write the file if a second has passed; call it often."""
        now_s = time.monotonic()
        if now_s < self._next_s:
            return
        self._next_s = now_s + _SHOW_EVERY_S
        temporary = self._path.with_name(f".{self._path.name}")
        # No fsync, unlike `ostiary.edge.durable_files`: nobody needs these numbers after a power cut.
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
