"""Starts the roles of one service in a fixed order, restarts those that end, stops them in reverse.

Rules:
- The supervisor holds no secret.
- A role starts when the one before it is ready (one byte "R" on the pipe in `OSTIARY_READY_FD`).
- A role that ends is restarted after 0.05 s; the delay doubles up to 2 s until a run lasts `STEADY_S`. The
  other roles run on: they see an EOF, answer busy, and connect again.
- A role that is not ready in time ends the start (`Misconfigured` names it); after a restart it is killed and
  counts as ended.
- Roles die with the supervisor (PR_SET_PDEATHSIG), so that a new supervisor never meets the old one's roles.
- SIGTERM or SIGINT: the roles get SIGTERM, last started first, each `stop_s` before SIGKILL.
- `run/roles.json` always has the name, pid, restarts and state of each role.

One thread, one loop. It waits for pidfds, ready pipes and a signal, and for nothing else.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Final

import msgspec

from ostiary.edge.durable_files import PUBLIC_FILE, write_atomic
from ostiary.edge.role import READY_FD_VARIABLE, SUPERVISOR_VARIABLE, die_with_parent
from ostiary.edge.stop_signal import StopSignal
from ostiary.errors import Misconfigured

READY_TIMEOUT_S: Final = 20.0
FIRST_BACKOFF_S: Final = 0.05
LAST_BACKOFF_S: Final = 2.0
STEADY_S: Final = 10.0
_PROBE_S: Final = 30.0
_log = logging.getLogger("ostiary.supervisor")


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """The user, group and further groups of a role; only root can start a role as another user."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """One process of a service; `user` None means the supervisor's own."""

    name: str
    argv: Sequence[str]
    user: User | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    inherited: tuple[int, ...] = ()
    ready_timeout_s: float = READY_TIMEOUT_S
    stop_s: float = 8.0


class RoleState(Enum):
    """A role's state: starting -> ready -> (it ended) waiting -> starting -> ... -> stopped."""

    STARTING = "starting"
    READY = "ready"
    WAITING = "waiting"
    STOPPED = "stopped"


class RoleStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One row of `roles.json`."""

    name: str
    pid: int | None
    restarts: int
    state: str
    last_exit: int | None


class Supervisor:
    """Runs `roles` until a signal. For the main thread: Python delivers signals to no other."""

    def __init__(self, roles: Sequence[Role], *, status_path: Path) -> None:
        self._running = [_Running(role) for role in roles]
        self._status_path = status_path
        self._stop = StopSignal()

    def run(self) -> None:
        """Start all roles and keep them running until a signal; `Misconfigured` if one is never ready."""
        try:
            for running in self._running:
                if not self._start_first(running):
                    return
            _log.info("roles-ready")
            while not self._stop.received:
                self._turn()
        finally:
            self._stop_all()

    def _start_first(self, running: _Running) -> bool:
        """Wait until a role is ready and keep the earlier ones running; False after a signal to stop."""
        running.start()
        self._write_status()
        # `was_ready`, not `state`: a role that ends right after it became ready is restarted like any other.
        while not running.was_ready:
            if self._stop.received:
                return False
            if running.state is not RoleState.STARTING:
                code = running.last_exit
                raise Misconfigured(
                    f"role '{running.role.name}' ended with {code} before it was ready; see its log"
                )
            if time.monotonic() >= running.ready_deadline_s:
                limit = running.role.ready_timeout_s
                raise Misconfigured(
                    f"role '{running.role.name}' was not ready within {limit:g} s; see its log"
                )
            self._turn()
        return True

    def _turn(self) -> None:
        """Wait for the next thing to happen and deal with it."""
        poll = select.poll()
        poll.register(self._stop.fd, select.POLLIN)
        for running in self._running:
            for fd in running.fds():
                poll.register(fd, select.POLLIN)
        now = time.monotonic()
        wakes = [running.wakes_at_s() for running in self._running]
        soonest_s = min((at for at in wakes if at is not None), default=now + 60) - now
        # One more millisecond, so that the deadline has surely passed: else it could spin just before it.
        poll.poll(max(0.0, soonest_s) * 1000 + 1)
        # A list, not a generator: any() would stop at the first change and leave the others unattended.
        if any([running.look() for running in self._running]):  # noqa: C419
            self._write_status()

    def _stop_all(self) -> None:
        # In reverse, so that what a role asks (the recorder its keyholder) outlives it and gets its last
        # work.
        for running in reversed(self._running):
            running.stop()
            self._write_status()

    def _write_status(self) -> None:
        rows = [running.status() for running in self._running]
        try:
            write_atomic(self._status_path, msgspec.json.encode(rows), mode=PUBLIC_FILE)
        except OSError as exc:  # a full disk must not take the service down
            _log.warning("status-file-not-written", extra={"reason": exc.strerror})


class _Running:
    """One role over its restarts."""

    def __init__(self, role: Role) -> None:
        self.role = role
        self.state = RoleState.STOPPED
        self.restarts = 0
        self.last_exit: int | None = None
        self.ready_deadline_s = 0.0
        self.was_ready = False
        self._process: subprocess.Popen[bytes] | None = None
        self._pidfd: int | None = None
        self._ready_fd: int | None = None
        self._started_s = 0.0
        self._backoff_s = FIRST_BACKOFF_S
        self._next_start_s = 0.0

    def start(self) -> None:
        # Only our end is non-blocking: the flag belongs to the open file description, one for each end.
        read_fd, write_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        os.set_blocking(write_fd, True)
        try:
            self._process = _spawn(self.role, write_fd)
        except OSError as exc:
            os.close(read_fd)
            raise Misconfigured(f"can't start role '{self.role.name}': {exc.strerror}") from exc
        finally:
            os.close(write_fd)
        self._ready_fd = read_fd
        # A pid can come to mean another process once this one is reaped; a pidfd can't (pidfd_open(2)). It
        # also becomes readable when the process ends, so that poll(2) waits for it beside the pipes.
        self._pidfd = os.pidfd_open(self._process.pid)
        self._started_s = time.monotonic()
        self.ready_deadline_s = self._started_s + self.role.ready_timeout_s
        self.state = RoleState.STARTING

    def fds(self) -> list[int]:
        return [fd for fd in (self._pidfd, self._ready_fd) if fd is not None]

    def wakes_at_s(self) -> float | None:
        match self.state:
            case RoleState.STARTING:
                return self.ready_deadline_s
            case RoleState.WAITING:
                return self._next_start_s
            case _:
                return None

    def look(self) -> bool:
        """React to readiness, an exit or a deadline; return whether anything changed."""
        changed = self._look_for_ready()
        if self._process is not None and self._process.poll() is not None:
            self._ended(self._process.returncode)
            return True
        now = time.monotonic()
        if self.state is RoleState.STARTING and self.restarts and now >= self.ready_deadline_s:
            _log.error("role-not-ready-in-time", extra={"role": self.role.name})
            self._kill(signal.SIGKILL)
        if self.state is RoleState.WAITING and now >= self._next_start_s:
            self._restart()
            return True
        return changed

    def stop(self) -> None:
        """SIGTERM, then after `stop_s` SIGKILL."""
        if self._process is not None:
            self._kill(signal.SIGTERM)
            try:
                self._process.wait(self.role.stop_s)
            except subprocess.TimeoutExpired:
                _log.warning("role-not-stopped-in-time", extra={"role": self.role.name})
                self._kill(signal.SIGKILL)
                self._process.wait()
            self.last_exit = self._process.returncode
        self._release()
        self.state = RoleState.STOPPED

    def status(self) -> RoleStatus:
        return RoleStatus(
            name=self.role.name,
            pid=self._process.pid if self._process is not None else None,
            restarts=self.restarts,
            state=self.state.value,
            last_exit=self.last_exit,
        )

    def _restart(self) -> None:
        self.restarts += 1
        try:
            self.start()
        except Misconfigured as exc:
            _log.error("role-not-restarted", extra={"role": self.role.name, "reason": exc.message})
            self._wait()

    def _look_for_ready(self) -> bool:
        if self._ready_fd is None:
            return False
        try:
            said = os.read(self._ready_fd, 1)
        except BlockingIOError:
            return False
        os.close(self._ready_fd)
        self._ready_fd = None
        # EOF without the byte: the role closed the pipe. Its exit, or the deadline, decides what follows.
        if said == b"R":
            self.was_ready = True
            self.state = RoleState.READY
        return True

    def _ended(self, code: int) -> None:
        self.last_exit = code
        _log.warning("role-ended", extra={"role": self.role.name, "exit": code})
        self._release()
        if time.monotonic() - self._started_s >= STEADY_S:
            self._backoff_s = FIRST_BACKOFF_S
        self._wait()

    def _wait(self) -> None:
        self._next_start_s = time.monotonic() + self._backoff_s
        self._backoff_s = min(2 * self._backoff_s, LAST_BACKOFF_S)
        self.state = RoleState.WAITING

    def _kill(self, number: signal.Signals) -> None:
        if self._pidfd is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)

    def _release(self) -> None:
        for fd in self.fds():
            os.close(fd)
        self._pidfd = self._ready_fd = self._process = None


def can_run_as(user: User, modules: Sequence[str]) -> bool:
    """Return whether that user can run this Python and import `modules`; a venv under /root fails."""
    program = "import importlib, sys; [importlib.import_module(name) for name in sys.argv[1:]]"
    try:
        done = subprocess.run(
            [sys.executable, "-c", program, *modules],
            user=user.uid,
            group=user.gid,
            extra_groups=list(user.groups),
            cwd="/",
            env=_environment({}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_PROBE_S,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return done.returncode == 0


def _spawn(role: Role, ready_fd: int) -> subprocess.Popen[bytes]:
    parent = os.getpid()
    user = role.user
    return subprocess.Popen(
        list(role.argv),
        env=_environment(
            {**role.environment, READY_FD_VARIABLE: str(ready_fd), SUPERVISOR_VARIABLE: str(parent)}
        ),
        user=user.uid if user else None,
        group=user.gid if user else None,
        extra_groups=list(user.groups) if user else None,
        pass_fds=[ready_fd, *role.inherited],
        stdin=subprocess.DEVNULL,
        # A process group of its own: the terminal sends Ctrl-C to the supervisor alone, which then stops the
        # roles in order.
        process_group=0,
        # Popen calls it after the change of user, which would clear the setting (prctl(2), PR_SET_PDEATHSIG).
        # Running Python between fork and exec is safe here because the supervisor has one thread.
        preexec_fn=lambda: die_with_parent(parent),  # noqa: PLW1509
    )


def _environment(extra: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a role: the supervisor's, sys.path, and `extra`."""
    # sys.path, so that a role finds the packages of a checkout that is not installed.
    path = os.pathsep.join(entry for entry in sys.path if entry)
    return {**os.environ, "PYTHONPATH": path, **extra}
