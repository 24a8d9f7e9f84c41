"""A certificate manager: its memory, and how long a claim takes that need not wait, alone and beside local
users that try to starve the others.
"""

from __future__ import annotations

import re
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.table import Row, print_table
from tests.support.fake_ca import FakeCA
from tests.support.local_attackers import CLAIM, STATUS, Attacker
from tests.support.running_manager import ClaimingProgram, RunningManager, start_manager

AGENTS = 1_000
CLAIMS = 1_000


def resident_mb(running: RunningManager) -> float:
    """What the manager has in memory: its PSS where no other program of this Python runs beside it."""
    assert running.process is not None
    text = Path(f"/proc/{running.process.pid}/smaps_rollup").read_text("ascii")
    return sum(int(kb) for kb in re.findall(r"^Rss:\s+(\d+)", text, re.MULTILINE)) / 1024


def spawn(running: RunningManager, controller: ClaimingProgram) -> list[str]:
    """Have the manager make agents, and wait for their certificates; return their claim tokens."""
    asked = {"subsystem": "component-harness", "capabilities": ["credential:use"]}
    tokens = [controller("request", **asked)["token"] for _ in range(AGENTS)]
    while any(row["state"] != "active" for row in running.status()["agents"]):
        time.sleep(0.1)
    return tokens


def measure(running: RunningManager, controller: ClaimingProgram) -> list[Row]:
    """Return the rows, the first of them before there is any agent but the node's own two."""
    assert controller("claim", token=running.controller["token"])["agent"] == running.controller["agent"]
    alone_mb = resident_mb(running)
    tokens = spawn(running, controller)
    full_mb = resident_mb(running)
    calm_ms = claims_ms(controller, tokens)
    attackers = attack(running.socket)
    beside_ms = claims_ms(controller, tokens)
    kept = [each.open() for each in attackers]
    for each in attackers:
        each.end()
    calm, beside = (percentiles(each) for each in (calm_ms, beside_ms))
    print(f"connections kept, slow bodies, idle, unread answers: {kept}")
    return [
        Row(name="manager, resident", measured=alone_mb, unit="MB", at_most=60),
        Row(name=f"manager with {AGENTS:,} agents, resident", measured=full_mb, unit="MB"),
        Row(name="claim of a signed certificate, p50", measured=calm[0], unit="ms", at_most=10),
        Row(name="claim of a signed certificate, p99", measured=calm[1], unit="ms"),
        Row(name="the same beside attackers, p99", measured=beside[1], unit="ms", at_most=1.5 * calm[1]),
    ]


def claims_ms(controller: ClaimingProgram, tokens: list[str]) -> list[float]:
    """Claim again and again; return how long each took in ms, the client's start of a connection included."""
    found = []
    for number in range(CLAIMS):
        began = time.perf_counter()
        controller("claim", token=tokens[number % len(tokens)])
        found.append((time.perf_counter() - began) * 1e3)
    return found


def attack(path: Path) -> list[Attacker]:
    """Have other users send bodies a byte at a time, say nothing, and read no answer."""
    return [
        Attacker(path, 61_991, 96, CLAIM + b"Content-Length: 900\r\n\r\n{", b" "),
        Attacker(path, 61_992, 2_000, b"", b""),
        Attacker(path, 61_993, 200, STATUS * 9, b""),
    ]


def percentiles(times: list[float]) -> tuple[float, float]:
    """Return p50 and p99 in the unit of the input."""
    ordered = sorted(times)
    return ordered[len(ordered) // 2], ordered[len(ordered) * 99 // 100]


def main() -> int:
    """Measure one manager; its authority is in this process."""
    fake = FakeCA()
    fake.start()
    with tempfile.TemporaryDirectory(prefix="ostiary-") as directory:
        Path(directory).chmod(0o755)  # other users attack
        running = start_manager(fake, Path(directory))
        try:
            running.when_active()
            controller = ClaimingProgram(running)
            rows = measure(running, controller)
            controller.end()
        except PermissionError:
            print("skipped: only root may look into a manager")
            return 0
        finally:
            running.stop()
            fake.stop()
    return print_table(rows)


if __name__ == "__main__":
    sys.exit(main())
