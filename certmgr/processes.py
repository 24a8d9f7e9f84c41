"""The adapter of /proc and the cgroup file system to the port `certmgr.scopes.ProcessView`.

Rules:
- A zombie counts as ended. A thread's id is translated to its process's.
- A pidfd pins a process while its files are read: if the process still lives afterwards, the files were its
  own.
"""

from __future__ import annotations

import contextlib
import os
import select
from collections.abc import Callable
from pathlib import Path
from typing import Final

from certmgr.scopes import Cgroup, Process, ProcessKey
from ostiary.errors import Forbidden

_PROC: Final = Path("/proc")
# Version 2 alone, or beside version 1 in systemd's hybrid mode (cgroups(7)).
_CGROUP_MOUNTS: Final = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified"))


class LinuxProcesses:
    """The processes and cgroups of the running kernel."""

    def __init__(self) -> None:
        self._cgroups = next((path for path in _CGROUP_MOUNTS if (path / "cgroup.procs").exists()), None)

    def process(self, pid: int) -> Process | None:
        """Read one process; None when it has ended."""
        try:
            stat = (_PROC / str(pid) / "stat").read_bytes()
            groups = (_PROC / str(pid) / "cgroup").read_text("utf-8", "surrogateescape")
        except (OSError, ValueError):
            return None
        # proc_pid_stat(5). comm may hold spaces and brackets, so fields are counted from the last one:
        #   pid (comm) state ppid pgrp session ... starttime
        #    1    2      3     4    5     6           22      -> fields[0] is state, fields[19] starttime
        fields = stat.rpartition(b")")[2].split()
        if fields[0] in {b"Z", b"X"}:
            return None
        # cgroups(7): "hierarchy-ID:controllers:path"; version 2 is the line that begins with "0::".
        cgroup = next((line[3:] for line in groups.splitlines() if line.startswith("0::")), None)
        return Process(
            key=ProcessKey(pid, int(fields[19])),
            parent=int(fields[1]),
            session=int(fields[3]),
            cgroup=cgroup if self._cgroups else None,  # a path that cannot be looked at is of no use
        )

    def cgroup(self, path: str) -> Cgroup | None:
        """Read one cgroup; None when it is gone."""
        # The path comes from /proc/PID/cgroup, where a process outside our cgroup namespace shows "/../".
        if self._cgroups is None or not path.startswith("/") or ".." in path.split("/"):
            return None
        directory = self._cgroups / path[1:]
        try:
            events = (directory / "cgroup.events").read_text()
            inode = directory.stat().st_ino
            with os.scandir(directory) as entries:
                is_leaf = not any(entry.is_dir(follow_symlinks=False) for entry in entries)
        except OSError:
            return None
        return Cgroup(path=path, inode=inode, is_leaf=is_leaf, populated="populated 1" in events)

    def children(
        self, keys: frozenset[ProcessKey], *, is_foreign: Callable[[Process], bool]
    ) -> frozenset[ProcessKey]:
        """Return the living descendants of these processes, leaving out foreign ones and all below them."""
        found: set[ProcessKey] = set()
        waiting = list(keys)
        while waiting:
            for pid in self._children_of(waiting.pop().pid):
                process = self.process(pid)
                if process is not None and process.key not in found and not is_foreign(process):
                    found.add(process.key)
                    waiting.append(process.key)
        return frozenset(found)

    @staticmethod
    def _children_of(pid: int) -> list[int]:
        children: list[int] = []
        # proc_tid_children(5): each thread lists only the children that it forked itself. The list may miss
        # children that end meanwhile; the next look corrects that.
        with contextlib.suppress(OSError), os.scandir(_PROC / str(pid) / "task") as tasks:
            for task in tasks:
                with contextlib.suppress(OSError):
                    children += map(int, Path(task.path, "children").read_text().split())
        return children


def leader_of_thread(thread_id: int) -> int:
    """Return the process that a thread belongs to; Forbidden when it has ended."""
    with contextlib.suppress(OSError):
        for line in (_PROC / str(thread_id) / "status").read_text("utf-8", "replace").splitlines():
            if line.startswith("Tgid:"):
                return int(line.split()[1])
    raise Forbidden("the requesting process has ended", rule="scope")


def pinned(view: LinuxProcesses, pid: int, pidfd: int | None) -> Process:
    """Read the process behind a pidfd (closed here), or behind a pid if there is none; Forbidden if it ended.

    1. Take or open a pidfd. 2. Read /proc. 3. The process still lives, so the number was its own meanwhile.
    """
    # 1.
    try:
        descriptor = pidfd if pidfd is not None else os.pidfd_open(pid)
    except OSError as exc:
        raise Forbidden("the requesting process has ended", rule="scope") from exc
    # 2. and 3.
    try:
        process = view.process(pid)
        if process is None or has_ended(descriptor):
            raise Forbidden("the requesting process has ended", rule="scope")
        return process
    finally:
        os.close(descriptor)


def has_ended(pidfd: int) -> bool:
    """Whether the process behind a pidfd has ended: then it polls as readable (pidfd_open(2))."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def open_process(key: ProcessKey, view: LinuxProcesses) -> int | None:
    """Return a pidfd of exactly that process, None when it has ended."""
    # Another process may own the number by now; the start time, read after the pidfd was opened, tells.
    try:
        descriptor = os.pidfd_open(key.pid)
    except OSError:
        return None
    process = view.process(key.pid)
    if process is None or process.key != key:
        os.close(descriptor)
        return None
    return descriptor
