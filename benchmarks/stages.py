"""The cost of a request's stages: time by the services' own metrics, CPU by the kernel's account of roles.

Rules:
- Stages are mean wall times between two readings of a service's Prometheus text; a stage that contains others
  is told without them.
- CPU is user and system time of a role's processes (its workers included) per request, which at full load
  says what the rate costs.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.load import Measured

_SAMPLE = re.compile(r'^\w+_stage_seconds_(sum|count)\{stage="(\w+)"\} ([0-9.]+)$', re.MULTILINE)
SHOWN_S = 1.3
"""A recorder shows its numbers once a second."""
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Stages:
    """Sum (s) and count of each stage so far."""

    sums: Mapping[str, float]
    counts: Mapping[str, float]

    @classmethod
    def parse(cls, *texts: str) -> Stages:
        """Read Prometheus text; a stage that stands in several is added up."""
        sums: dict[str, float] = {}
        counts: dict[str, float] = {}
        for what, stage, value in _SAMPLE.findall("\n".join(texts)):
            found = sums if what == "sum" else counts
            found[stage] = found.get(stage, 0.0) + float(value)
        return cls(sums, counts)

    def per_request_us(self, before: Stages, stage: str, requests: int) -> float:
        """Mean time (us) that a request spent in a stage since `before`, however often it went through it."""
        return (self.sums.get(stage, 0.0) - before.sums.get(stage, 0.0)) / requests * 1e6

    def mean_us(self, before: Stages, stage: str) -> float:
        """Mean time (us) of one pass through a stage since `before`."""
        passes = self.passes(before, stage)
        return (self.sums.get(stage, 0.0) - before.sums.get(stage, 0.0)) / passes * 1e6 if passes else 0.0

    def passes(self, before: Stages, stage: str) -> float:
        """How often the stage was passed since `before`."""
        return self.counts.get(stage, 0.0) - before.counts.get(stage, 0.0)


def cpu_by_role(roles_file: Path) -> dict[str, float]:
    """CPU seconds of each role's processes so far, by the supervisor's status file."""
    roles = json.loads(roles_file.read_text())
    entries = roles["roles"] if isinstance(roles, dict) else roles
    return {role["name"]: cpu_of(role["pid"]) for role in entries}


def cpu_of(pid: int) -> float:
    """CPU seconds of a process and its descendants so far."""
    return sum(map(_cpu_s, family(pid)))


def family(pid: int) -> Iterable[int]:
    """A process and its descendants."""
    yield pid
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text("ascii").split():
            yield from family(int(child))


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def print_cpu(done: Measured) -> None:
    """Print the CPU of one request by role, the client's with it."""
    spent = {**done.cpu_s, "client": done.client_s}
    total = sum(spent.values())
    shares = [(name, s / done.count * 1e6) for name, s in spent.items() if s / total > 0.005]
    told = ", ".join(f"{name} {us:.0f}" for name, us in shares)
    print(f"    CPU per request {total / done.count * 1e6:.0f} us: {told}")


def print_shares(title: str, whole_us: float, parts: Mapping[str, float]) -> None:
    """Print parts of a whole, and what is left as the first of them."""
    rest = whole_us - sum(parts.values())
    print(f"{title}, mean {whole_us:.0f} us:")
    for name, us in {"TLS, HTTP, threads, client": rest, **parts}.items():
        print(f"    {name:34} {us:7.0f} us {us / whole_us:5.0%}")


def print_turns(before: Stages, after: Stages, acts: int) -> None:
    """Print what the recorder's turns took."""
    parts = ", ".join(f"{name} {after.mean_us(before, name):.0f}" for name in ("settle", "decide", "append"))
    print(
        f"recorder: {acts / after.passes(before, 'turn'):.1f} acts a turn, "
        f"of {after.mean_us(before, 'turn'):.0f} us ({parts}, the rest is the commit); "
        f"keyholder {after.mean_us(before, 'keyholder'):.0f} us; "
        f"{after.passes(before, 'flush'):.0f} flushes of {after.mean_us(before, 'flush'):.0f} us"
    )
