"""Keep a process's memory from being read by others, written to a core file, or swapped out.

Rules:
- Call it first thing after exec, before any secret is read: exec resets PR_SET_DUMPABLE, fork loses memory
  locks.
- It returns what it could not do and raises nothing: the caller decides, and logs it.
- Pages that are there are locked at once, others when they come (MCL_ONFAULT, Linux 4.4): a page that is not
  there holds no secret.
- MCL_FUTURE is set only where locking is unlimited, also after root was given up: under a limit, a later
  allocation would fail instead. So the limit is raised where that is allowed, and else only what is there now
  is locked.

What it doesn't promise: anything against root or the kernel, or that copies inside CPython are wiped
(`GLIBC_TUNABLES=glibc.malloc.perturb=165` in the environment overwrites freed blocks; see docs/security.md).
"""

from __future__ import annotations

import ctypes
import os
import resource
from pathlib import Path
from typing import Final

# Not in Python: linux/prctl.h, bits/mman-linux.h, linux/capability.h.
_PR_GET_DUMPABLE: Final = 3
_PR_SET_DUMPABLE: Final = 4
# With MCL_ONFAULT (4) a page is locked once it is there, and none is made for it: without, whole stacks of
# threads, mapped libraries and what is shared since a fork would be filled and copied first.
_MCL_CURRENT: Final = 1 | 4
_MCL_FUTURE: Final = 2
_CAP_IPC_LOCK: Final = 14
_PERTURB: Final = "glibc.malloc.perturb="


def harden_process() -> list[str]:
    """Set PR_SET_DUMPABLE=0 and RLIMIT_CORE=0, lock all memory; return what could not be had, as sentences
    for the log, none of them secret.
    """
    # Both: RLIMIT_CORE does not hold back a core_pattern that is a pipe (core(5)), PR_SET_DUMPABLE does; and
    # PR_SET_DUMPABLE closes /proc/PID/mem and ptrace(2) to other processes of the same user.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    library = ctypes.CDLL(None, use_errno=True)
    # prctl(2) is variadic and takes unsigned longs: ctypes would pass ints, whose upper halves are undefined.
    library.prctl(
        _PR_SET_DUMPABLE, ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0)
    )
    shortfalls = _lock_memory(library)
    if library.prctl(_PR_GET_DUMPABLE) != 0:
        shortfalls.append("processes of the same user can read this one's memory (PR_SET_DUMPABLE refused)")
    if _PERTURB not in os.environ.get("GLIBC_TUNABLES", ""):
        shortfalls.append(
            "freed memory is not overwritten (GLIBC_TUNABLES=glibc.malloc.perturb=165 is not set)"
        )
    return shortfalls


def _lock_memory(library: ctypes.CDLL) -> list[str]:
    """Lock what is there, and what comes where that can't fail; return what could not be locked."""
    shortfalls: list[str] = []
    limit_bytes = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    if limit_bytes != resource.RLIM_INFINITY and not _has_capability(_CAP_IPC_LOCK):
        shortfalls.append(
            f"memory may be swapped out (RLIMIT_MEMLOCK is {limit_bytes} bytes; "
            "LimitMEMLOCK=infinity lets it be locked)"
        )
        return shortfalls
    flags = _MCL_CURRENT | _MCL_FUTURE
    try:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    except (OSError, ValueError):  # no CAP_SYS_RESOURCE, as in many containers
        flags = _MCL_CURRENT
        shortfalls.append(
            f"memory that is allocated later may be swapped out (RLIMIT_MEMLOCK is {limit_bytes} bytes "
            "and can't be raised)"
        )
    if library.mlockall(flags) != 0:
        shortfalls.append(f"memory may be swapped out (mlockall: {os.strerror(ctypes.get_errno())})")
    return shortfalls


def _has_capability(number: int) -> bool:
    """Tell whether the effective set (CapEff, hex) holds a capability."""
    status = Path("/proc/self/status").read_text(encoding="utf-8", errors="replace")
    line = next(line for line in status.splitlines() if line.startswith("CapEff:"))
    return bool(int(line.split()[1], 16) >> number & 1)
