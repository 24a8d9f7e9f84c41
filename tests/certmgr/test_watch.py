"""The watch over scopes, with processes of the running kernel."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import cast

import pytest

from certmgr import watch
from certmgr.agents import Agents
from certmgr.processes import LinuxProcesses, pinned
from certmgr.record import Binding, Record
from certmgr.scopes import ProcessScope, Scope
from certmgr.watch import LOOK_S, ScopeWatch
from tests.support.certificates import NOW
from tests.support.manager_records import FakeClock, record
from tests.support.running_manager import until
from tests.support.waiting import PATIENCE_S, rarely

VIEW = LinuxProcesses()
PARENT = "import subprocess, sys; print(subprocess.Popen(['sleep', '999']).pid, flush=True); sys.stdin.read()"


@dataclass(kw_only=True)
class FakeAgents:
    """One agent, and what the watch says of it."""

    record: Record
    ended: list[str] = field(default_factory=list)
    looks: int = 0
    when_ended: Callable[[], object] = bool

    def records(self) -> list[Record]:
        self.looks += 1
        return [] if self.ended else [self.record]

    def scope_ended(self, agent: str) -> None:
        self.when_ended()
        self.ended.append(agent)

    def rescope(self, _agent: str, _seen: Scope, scope: Scope) -> None:
        self.record = record(binding=Binding(uid=0, scope=scope))


class RunningWatch:
    def __init__(self, watched: Record, clock: FakeClock | None = None) -> None:
        self.agents = FakeAgents(record=watched)
        self.watch = ScopeWatch(cast("Agents", self.agents), VIEW, clock or FakeClock())
        self.thread = threading.Thread(target=self.watch.run)
        self.thread.start()

    def stop(self) -> None:
        self.watch.stop()
        self.thread.join(PATIENCE_S)
        assert not self.thread.is_alive()


@pytest.fixture
def parent() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, process_group=0
    ) as process:
        yield process
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def bound_to(pid: int) -> Record:
    return record(binding=Binding(uid=0, scope=ProcessScope(root=pinned(VIEW, pid, None).key)))


def test_the_end_of_a_process_is_noticed_without_looking(
    parent: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next look would come after the test has given up."""
    monkeypatch.setattr(watch, "LOOK_S", 10 * PATIENCE_S)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    os.kill(child, 9)
    watching = RunningWatch(bound_to(parent.pid))
    watching.agents.when_ended = lambda: monkeypatch.setattr(watch, "LOOK_S", LOOK_S)
    try:
        until(lambda: watching.watch._pidfds)
        parent.kill()
        until(lambda: watching.agents.ended)
        assert watching.agents.ended == [watching.agents.record.agent]
    finally:
        watching.stop()


def test_a_surviving_child_keeps_the_agent_alive_without_a_busy_loop(parent: subprocess.Popen[bytes]) -> None:
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    watching = RunningWatch(bound_to(parent.pid))
    try:
        until(lambda: watching.agents.looks >= 2)
        parent.kill()
        parent.wait()
        rarely(lambda: watching.agents.looks, every_s=LOOK_S, for_s=3 * LOOK_S)
        assert watching.agents.ended == []
        os.kill(child, 9)
        until(lambda: watching.agents.ended)
    finally:
        watching.stop()


def test_a_program_that_forks_without_end_leaves_descriptors_to_the_socket(
    parent: subprocess.Popen[bytes],
) -> None:
    """The end of a process without one is noticed by the next look."""
    watched = bound_to(parent.pid)
    agents = FakeAgents(record=watched)
    watching = ScopeWatch(cast("Agents", agents), VIEW, FakeClock(), max_pidfds=1)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    watching.look()
    watching.look()
    assert len(watching._pidfds) == 1
    os.kill(child, 9)
    parent.kill()
    parent.wait()

    def has_ended() -> bool:
        watching.look()
        return agents.ended == [watched.agent]

    until(has_ended)


@pytest.mark.parametrize("is_named", [False, True])
def test_an_unclaimed_agent_ends(parent: subprocess.Popen[bytes], is_named: bool) -> None:
    clock = FakeClock()
    named = pinned(VIEW, parent.pid, None).key if is_named else None
    watching = RunningWatch(record(claim_by=NOW + timedelta(minutes=10), named=named), clock)
    try:
        time.sleep(0.3)
        assert watching.agents.ended == []
        clock.at = NOW + timedelta(minutes=10)
        until(lambda: watching.agents.ended)
    finally:
        watching.stop()


def test_an_agent_whose_named_process_ends_unclaimed_ends(parent: subprocess.Popen[bytes]) -> None:
    watching = RunningWatch(record(named=pinned(VIEW, parent.pid, None).key))
    try:
        until(lambda: watching.agents.looks >= 2)
        assert watching.agents.ended == []
        parent.kill()
        until(lambda: watching.agents.ended)
    finally:
        watching.stop()
