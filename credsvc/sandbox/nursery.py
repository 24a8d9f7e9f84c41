"""Where workers are made and buried: fork, lock down, keep one ready, wait for their ends.

Rules:
- A worker is handed out only after it has reported `locked`; a failed lock-down is buried and raised, and so
  is a machine that gives no process.
- Every process made here is waited for here: a pid stays ours until then, so a kill never meets another's.
- As root each worker gets a numeric user of its own, the one longest unused; otherwise all are the zygote's
  user.
- One thread. Locking takes about 5 ms (most of it the two forks and the network namespace), in which the
  zygote does nothing else; a spare hides that from callers.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NoReturn

from credsvc.sandbox.kernel import LockdownError
from credsvc.sandbox.lockdown import GO, Layers, lock_down
from credsvc.sandbox.worker import Language, serve

__all__ = ["MAX_WORKERS", "Nursery", "Worker"]

FIRST_WORKER_UID: Final = 2_000_000_000  # systemd's table of uids leaves this range unused
MAX_WORKERS: Final = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """A locked worker process; `channel` is the host's end of its socket pair, to be sent away and closed."""

    worker_id: int
    pid: int
    uid: int | None
    channel: socket.socket


class Nursery:
    """Owns every worker process and the numeric users that they hold."""

    def __init__(self, layers: Layers, language: Language) -> None:
        self._layers = layers
        self._language = language
        self._alive: dict[int, Worker] = {}  # by pid
        self._spare: Worker | None = None
        self._last_id = 0
        users = range(FIRST_WORKER_UID, FIRST_WORKER_UID + MAX_WORKERS)
        self._free_uids = list(users) if os.geteuid() == 0 else []

    @property
    def has_spare(self) -> bool:
        """Say whether a worker stands ready."""
        return self._spare is not None

    def make_spare(self) -> None:
        """Make the worker that `take` hands out next; raises `LockdownError` with the step that failed."""
        self._spare = self._make()

    def take(self) -> Worker:
        """Return the spare, or a worker made now; raises `LockdownError`."""
        worker, self._spare = self._spare, None
        return worker if worker is not None else self._make()

    def end(self, worker: Worker) -> int | None:
        """Kill a worker and return its wait status, or None when it was buried before."""
        if worker.pid not in self._alive:
            return None
        os.kill(worker.pid, signal.SIGKILL)
        status = os.waitpid(worker.pid, 0)[1]
        self._bury(worker.pid)
        return status

    def reap(self) -> Iterator[tuple[Worker, int]]:
        """Bury those that ended by themselves; yields each with its wait status."""
        while self._alive:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            worker = self._bury(pid)
            if worker is not None:
                yield worker, status

    def close(self) -> None:
        """End all that are left."""
        for worker in list(self._alive.values()):
            self.end(worker)

    def _bury(self, pid: int) -> Worker | None:
        worker = self._alive.pop(pid, None)
        if worker is None:
            return None
        if worker.uid is not None:
            # To the far end of the queue: what a user's last worker may have left is forgotten by then.
            self._free_uids.insert(0, worker.uid)
        if worker is self._spare:
            self._spare = None
        worker.channel.close()
        return worker

    def _make(self) -> Worker:
        if len(self._alive) >= MAX_WORKERS:
            raise LockdownError("too many workers", 0)
        uid = self._free_uids.pop() if self._free_uids else None
        try:
            child, ours, status_read = self._fork(uid)
        except OSError as exc:
            if uid is not None:
                self._free_uids.append(uid)
            raise LockdownError("make a process", exc.errno or 0) from exc
        with os.fdopen(status_read, encoding="ascii", errors="replace") as status:
            first = status.readline()
            # Pids are those of the zygote's namespace: `pid N` is written by the process between, which is
            # still outside of the new one.
            pid = _read_pid(first, child)
            if pid != child:
                os.waitpid(child, 0)  # the process between; the worker is our child once this returns
            self._last_id += 1
            worker = Worker(worker_id=self._last_id, pid=pid, uid=uid, channel=ours)
            self._alive[pid] = worker
            with contextlib.suppress(BrokenPipeError):  # it failed already and says so below
                ours.send(GO)
            reports = [first.strip(), *status.read().splitlines()]
        if "locked" not in reports:
            self.end(worker)
            failed = [line.removeprefix("failed ") for line in reports if line.startswith("failed ")]
            raise LockdownError(failed[0] if failed else "it ended without a report", 0)
        return worker

    def _fork(self, uid: int | None) -> tuple[int, socket.socket, int]:
        """Make a child that becomes a worker: its pid, our end of its channel, and where its report
        is read.
        """
        with contextlib.ExitStack() as failed, contextlib.ExitStack() as theirs:
            ours, channel = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            failed.callback(ours.close)
            theirs.callback(channel.close)
            status_read, status_write = os.pipe()
            failed.callback(os.close, status_read)
            theirs.callback(os.close, status_write)
            child = os.fork()
            if child == 0:
                self._become_worker(channel.fileno(), status_write, uid)
            failed.pop_all()
        return child, ours, status_read

    def _become_worker(self, channel_fd: int, status_fd: int, uid: int | None) -> NoReturn:
        """In the child: lock down and serve."""
        try:
            # What the zygote's loop had set up: the wake-up pipe is shared with it, and would wake it.
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_DFL)
            # A write to fd 2 is SIGSYS under the filter; print and warnings do nothing where the stream is
            # None.
            for stream in ("stdin", "stdout", "stderr"):
                setattr(sys, stream, None)
            lock_down(self._layers, uid=uid, channel_fd=channel_fd, status_fd=status_fd)
            serve(self._language)
        finally:
            # Never back into the zygote's loop, whatever was raised, and nothing of its atexit.
            os._exit(1)


def _read_pid(line: str, child: int) -> int:
    """The first line of the status pipe is `pid N`; anything else is a failure before the second fork."""
    word, _space, number = line.strip().partition(" ")
    return int(number) if word == "pid" else child
