"""The supervisor against roles that are small shell-like Python programs: real processes, real signals."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from ostiary import supervisor
from ostiary.edge.role import die_with_parent
from ostiary.errors import Misconfigured
from ostiary.supervisor import FIRST_BACKOFF_S, Role, RoleStatus, Supervisor, User, can_run_as
from tests.support.waiting import PATIENCE_S, until

pytestmark = pytest.mark.slow

READY = "import os; os.write(int(os.environ['OSTIARY_READY_FD']), b'R');"
APPEND = "import sys; open(sys.argv[1], 'a').write({text!r});"


def role(
    name: str, program: str, *arguments: str, ready_timeout_s: float = PATIENCE_S, stop_s: float = PATIENCE_S
) -> Role:
    argv = [sys.executable, "-S", "-c", program, *arguments]
    return Role(name=name, argv=argv, ready_timeout_s=ready_timeout_s, stop_s=stop_s)


class Running:
    """A supervisor in a child process; its exit code is 0, or 3 with the message in `failure`."""

    def __init__(self, directory: Path, roles: list[Role]) -> None:
        self.status_path = directory / "roles.json"
        self.failure = directory / "failure"
        parent = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            # A test run that is killed leaves no supervisor behind, and with it no role.
            die_with_parent(parent)
            code = 1
            try:
                Supervisor(roles, status_path=self.status_path).run()
                code = 0
            except Misconfigured as exc:
                self.failure.write_text(exc.message)
                code = 3
            finally:
                os._exit(code)

    def status(self) -> dict[str, RoleStatus]:
        if not self.status_path.exists():
            return {}
        rows = msgspec.json.decode(self.status_path.read_bytes(), type=list[RoleStatus])
        return {row.name: row for row in rows}

    def wait(self, condition: Callable[[dict[str, RoleStatus]], bool]) -> dict[str, RoleStatus]:
        def wanted() -> dict[str, RoleStatus] | None:
            status = self.status()
            return status if status and condition(status) else None

        found = until(wanted, self.status)
        assert found is not None
        return found

    def stop(self) -> int:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)
        return self.end()

    def end(self) -> int:
        pidfd = os.pidfd_open(self.pid)
        # One that does not end is killed, so that a test run never waits for ever.
        if not select.select([pidfd], [], [], PATIENCE_S)[0]:
            os.kill(self.pid, signal.SIGKILL)
        os.close(pidfd)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


Start = Callable[[list[Role]], Running]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[Running] = []

    def run(roles: list[Role]) -> Running:
        started.append(Running(tmp_path, roles))
        return started[-1]

    yield run
    for running in started:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(running.pid, signal.SIGKILL)
            os.waitpid(running.pid, 0)


def all_ready(status: dict[str, RoleStatus]) -> bool:
    return all(row.state == "ready" for row in status.values())


def restarted(times: int, status: dict[str, RoleStatus], *, name: str = "first") -> bool:
    return status[name].restarts == times and all_ready(status)


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def wait_gone(*pids: int) -> None:
    until(lambda: all(gone(pid) for pid in pids), f"the end of {pids}")


def test_roles_start_in_order_each_after_the_one_before_is_ready(start: Start, tmp_path: Path) -> None:
    log = tmp_path / "log"
    slow = (
        APPEND.format(text="slow ") + "import time; time.sleep(0.3);" + APPEND.format(text="ready ") + READY
    )
    quick = APPEND.format(text="quick ") + READY
    sleep = "time.sleep(999)"
    running = start(
        [role("slow", slow + sleep, str(log)), role("quick", quick + "import time;" + sleep, str(log))]
    )
    running.wait(lambda status: all_ready(status) and status["quick"].pid is not None)
    assert log.read_text() == "slow ready quick "
    assert running.stop() == 0


def test_an_inherited_descriptor_is_there_again_after_a_restart(start: Start, tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as file:
        program = "import os, sys, time; os.write(int(sys.argv[1]), b'x');" + READY + "time.sleep(999)"
        inheriting = role("one", program, str(file.fileno()))
        running = start([dataclasses.replace(inheriting, inherited=(file.fileno(),))])
        pid = running.wait(all_ready)["one"].pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        running.wait(functools.partial(restarted, 1, name="one"))
    assert running.stop() == 0
    assert (tmp_path / "log").read_text() == "xx"


def test_a_killed_role_comes_back_and_the_others_stay(start: Start) -> None:
    program = READY + "import time; time.sleep(999)"
    running = start([role("first", program), role("second", program)])
    before = running.wait(lambda status: all_ready(status) and len(status) == 2)
    first, second = before["first"].pid, before["second"].pid
    assert first is not None
    for restarts in range(1, 4):
        pid = running.status()["first"].pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        after = running.wait(functools.partial(restarted, restarts))
        assert after["first"].pid not in {None, pid}
    assert running.status()["second"].pid == second
    assert running.status()["first"].last_exit == -signal.SIGKILL
    assert running.stop() == 0


def test_a_role_that_keeps_ending_is_tried_ever_more_rarely(start: Start, tmp_path: Path) -> None:
    program = "import sys, time; open(sys.argv[1], 'a').write(f'{time.monotonic()}\\n');" + READY
    starts = tmp_path / "starts"
    running = start([role("short", program, str(starts))])
    running.wait(lambda status: status["short"].restarts >= 5)
    assert running.stop() == 0
    assert not running.failure.exists()
    at_s = [float(line) for line in starts.read_text().splitlines()][:5]
    pauses_s = [after - before for before, after in itertools.pairwise(at_s)]
    backoffs_s = [FIRST_BACKOFF_S * 2**restart for restart in range(4)]
    assert all(pause_s >= backoff_s for pause_s, backoff_s in zip(pauses_s, backoffs_s, strict=True))


def test_a_role_that_was_ready_and_ended_before_anyone_looked_is_restarted(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = supervisor._Running.look

    def look_late(running: supervisor._Running) -> bool:
        time.sleep(0.3)
        return look(running)

    monkeypatch.setattr(supervisor._Running, "look", look_late)
    running = start([role("short", READY)])
    running.wait(lambda status: status["short"].restarts >= 1)
    assert running.stop() == 0


def test_a_role_that_is_never_ready_is_named(start: Start, tmp_path: Path) -> None:
    sleep, pid = "time.sleep(999)", tmp_path / "pid"
    good = "import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid()));" + READY + sleep
    running = start([role("good", good, str(pid)), role("mute", "import time;" + sleep, ready_timeout_s=0.5)])
    assert running.end() == 3
    assert "role 'mute' was not ready within 0.5 s" in running.failure.read_text()
    wait_gone(int(pid.read_text()))


def test_a_role_that_ends_at_once_is_named_with_its_exit(start: Start) -> None:
    running = start([role("broken", "raise SystemExit(7)")])
    assert running.end() == 3
    assert "role 'broken' ended with 7" in running.failure.read_text()


def test_a_program_that_is_not_there_is_named(start: Start) -> None:
    running = start([Role(name="missing", argv=["/nonexistent"])])
    assert running.end() == 3
    assert "can't start role 'missing'" in running.failure.read_text()


def test_roles_stop_in_reverse_and_gracefully(start: Start, tmp_path: Path) -> None:
    log = tmp_path / "log"
    program = (
        "import os, signal, sys, time\n"
        "def stop(*_):\n"
        "    open(sys.argv[1], 'a').write(sys.argv[2]); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, stop)\n"
        "os.write(int(os.environ['OSTIARY_READY_FD']), b'R')\n"
        "time.sleep(999)\n"
    )
    running = start([role(name, program, str(log), name) for name in ("a", "b", "c")])
    running.wait(lambda status: all_ready(status) and len(status) == 3)
    assert running.stop() == 0
    assert log.read_text() == "cba"
    assert {row.state for row in running.status().values()} == {"stopped"}


def test_a_role_that_ignores_sigterm_is_killed(start: Start) -> None:
    deaf = "import signal, time; signal.signal(15, signal.SIG_IGN);" + READY + "time.sleep(999)"
    running = start([role("deaf", deaf, stop_s=0.3)])
    running.wait(all_ready)
    assert running.stop() == 0
    assert running.status()["deaf"].last_exit == -signal.SIGKILL


def test_roles_die_with_a_killed_supervisor(start: Start) -> None:
    program = READY + "import time; time.sleep(999)"
    running = start([role("first", program), role("second", program)])
    status = running.wait(lambda status: all_ready(status) and len(status) == 2)
    os.kill(running.pid, signal.SIGKILL)
    running.end()
    wait_gone(*[row.pid for row in status.values() if row.pid is not None])


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: only root starts a role as another user")
def test_a_role_of_another_user_runs_as_that_user_and_still_dies_with_us(
    start: Start, tmp_path: Path
) -> None:
    argv = ["/usr/bin/env", "bash", "-c", 'echo R >&"$OSTIARY_READY_FD"; exec sleep 999']
    running = start([Role(name="other", argv=argv, user=User(uid=65534, gid=65534))])
    pid = running.wait(all_ready)["other"].pid
    assert pid is not None
    assert Path(f"/proc/{pid}").stat().st_uid == 65534
    os.kill(running.pid, signal.SIGKILL)
    running.end()
    wait_gone(pid)


def test_whether_a_user_can_run_us_is_probed() -> None:
    me = User(uid=os.getuid(), gid=os.getgid(), groups=tuple(os.getgroups()))
    assert can_run_as(me, ["ostiary.errors"])
    assert not can_run_as(me, ["ostiary.no_such_module"])
