"""What a role of a service does first: be the one that was named, say that it is ready, die with its
supervisor.

Rules:
- Ready is one byte "R" on the inherited pipe that `OSTIARY_READY_FD` names; it is sent once, when the role
  can serve.
- A role never outlives the process that started it (PR_SET_PDEATHSIG, prctl(2)); a change of user clears that
  setting, so it is made after one.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import importlib
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from ostiary.edge import log

READY_FD_VARIABLE: Final = "OSTIARY_READY_FD"
SUPERVISOR_VARIABLE: Final = "OSTIARY_SUPERVISOR_PID"
_PR_SET_PDEATHSIG: Final = 1
# Loaded here, because between fork and exec nothing may be loaded.
_libc = ctypes.CDLL(None, use_errno=True)


def announce_ready() -> None:
    """Tell the supervisor, if there is one, that this role serves; safe to call again and in a
    forked worker.
    """
    # pop: a child that this role starts must not find the number of a descriptor that it does not have.
    fd_text = os.environ.pop(READY_FD_VARIABLE, None)
    if fd_text is None:
        return
    with contextlib.suppress(OSError):  # a worker that comes later finds the pipe closed
        os.write(int(fd_text), b"R")
    with contextlib.suppress(OSError):
        os.close(int(fd_text))


def die_with_parent(parent_pid: int) -> None:
    """Have the kernel kill this process when the thread that started it ends; exit now if that has ended."""
    if _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    # The parent may have ended before the prctl: then no signal will come, and this process has another
    # parent.
    if os.getppid() != parent_pid:
        os._exit(1)


def be_role(service: str, roles: Mapping[str, str]) -> None:
    """Be the role that the command line names (`ROLE --home DIR`), until the supervisor says stop.

    `roles` says which module has a role's `run(home_path)`; no other role's is imported.
    """
    parser = argparse.ArgumentParser(prog=f"{service}.role")
    parser.add_argument("role", choices=list(roles))
    parser.add_argument("--home", type=Path, required=True)
    given = parser.parse_args()
    log.configure(f"{service}-{given.role}")
    importlib.import_module(roles[given.role]).run(given.home)
