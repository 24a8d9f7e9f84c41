"""Where the upcall's files lie: the machine's own layout, and private ones for single processes.

    machine     create user ostiary:* *           /usr/libexec/ostiary/request-key %k
    private     create user ostiary-PID-START:* * /usr/libexec/ostiary-PID-START/request-key %k

Rules:
- A private layout has its own description prefix, conf, handler and managers, so it and the files of other
  checkouts, releases or crashed runs never meet. Tests and the self-test use one; agents never do.
- Its name contains its owner (pid and start time), so the next install recognises and removes what a killed
  owner left.
- If two conf lines match, request-key takes the one with the shortest wildcard (request-key.conf(5)); the
  colon keeps any prefix here from beginning another.
"""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from keyutils import request_key_handler

# ostiary-PID-START, with the endings of `_private`; the machine's own names have no numbers
_NAME: Final = re.compile(r"ostiary-(\d+)-(\d+)(?:\.conf|-lasting)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """One handler's files; the default is the machine's, which serves all agents."""

    prefix: str = request_key_handler.PREFIX.decode()
    request_key: Path = Path("/sbin/request-key")
    conf: Path = Path("/etc/request-key.d/ostiary.conf")
    handler: Path = Path("/usr/libexec/ostiary/request-key")
    lasting: Path = Path(request_key_handler.MANAGER_DIRECTORIES[0])
    passing: Path = Path(request_key_handler.MANAGER_DIRECTORIES[1])

    @property
    def module(self) -> Path:
        """The handler's module, beside its program."""
        return self.handler.with_name("request_key_handler.py")


MACHINE: Final = Layout()


def private_layout(root: Layout = MACHINE) -> Layout:
    """Return this process's own layout, for `install` and the `prefix` of `agent_keys`; creates nothing."""
    return _private(root, str(os.getpid()), start_time(os.getpid()) or "0")


def waste(root: Layout = MACHINE) -> list[Layout]:
    """Return the private layouts beside `root` whose owners have ended."""
    # Found by any of its four parts: a killed uninstall may have left only one.
    found = set()
    for parent in (root.conf.parent, root.handler.parents[1], root.passing.parent):
        with contextlib.suppress(OSError):
            found |= {match.groups() for path in parent.iterdir() if (match := _NAME.fullmatch(path.name))}
    return [_private(root, pid, started) for pid, started in sorted(found) if start_time(int(pid)) != started]


def start_time(pid: int) -> str | None:
    """Return a process's start time in clock ticks since boot, None if it has ended.

    With the pid it identifies the process: a later one with the same number started later.
    """
    # proc_pid_stat(5): starttime is field 22; counted from the last bracket, as comm may hold anything
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    return None


def _private(root: Layout, pid: str, started: str) -> Layout:
    name = f"ostiary-{pid}-{started}"
    return replace(
        root,
        prefix=f"{name}:",
        conf=root.conf.with_name(f"{name}.conf"),
        handler=root.handler.parents[1] / name / "request-key",
        lasting=root.passing.with_name(f"{name}-lasting"),
        passing=root.passing.with_name(name),
    )
