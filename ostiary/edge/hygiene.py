"""Keep a process's memory from being read by others, written to a core file, or swapped out.

Rules:
- Call it first thing after exec, before any secret is read: exec resets PR_SET_DUMPABLE, fork loses memory
  locks.
- It reports what it could not do and raises nothing: the caller decides, `readyz` tells.
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
from dataclasses import dataclass
from pathlib import Path
from typing import Final

# linux/prctl.h, bits/mman-linux.h, linux/capability.h
_PR_GET_DUMPABLE: Final = 3
_PR_SET_DUMPABLE: Final = 4
_MCL_CURRENT: Final = 1
_MCL_FUTURE: Final = 2
_CAP_IPC_LOCK: Final = 14
_PERTURB: Final = "glibc.malloc.perturb="


@dataclass(frozen=True, slots=True, kw_only=True)
class HardeningReport:
    """What holds now; `shortfalls` are sentences for the log, none of them secret."""

    is_undumpable: bool
    has_no_core: bool
    is_locked: bool
    wipes_freed_memory: bool
    shortfalls: tuple[str, ...]


def harden_process() -> HardeningReport:
    """Set PR_SET_DUMPABLE=0 and RLIMIT_CORE=0, lock all memory, and report."""
    shortfalls: list[str] = []
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    library = ctypes.CDLL(None, use_errno=True)
    library.prctl(
        _PR_SET_DUMPABLE, ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0)
    )
    is_undumpable = library.prctl(_PR_GET_DUMPABLE) == 0
    if not is_undumpable:
        shortfalls.append("processes of the same user can read this one's memory (PR_SET_DUMPABLE refused)")
    is_locked = _lock_memory(library, shortfalls)
    wipes = _PERTURB in os.environ.get("GLIBC_TUNABLES", "")
    if not wipes:
        shortfalls.append(
            "freed memory is not overwritten (GLIBC_TUNABLES=glibc.malloc.perturb=165 is not set)"
        )
    return HardeningReport(
        is_undumpable=is_undumpable,
        has_no_core=resource.getrlimit(resource.RLIMIT_CORE)[0] == 0,
        is_locked=is_locked,
        wipes_freed_memory=wipes,
        shortfalls=tuple(shortfalls),
    )


def _lock_memory(library: ctypes.CDLL, shortfalls: list[str]) -> bool:
    limit_bytes = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    if limit_bytes != resource.RLIM_INFINITY and not _has_capability(_CAP_IPC_LOCK):
        shortfalls.append(
            f"memory may be swapped out (RLIMIT_MEMLOCK is {limit_bytes} bytes; LimitMEMLOCK=infinity lets it be locked)"
        )
        return False
    flags = _MCL_CURRENT | _MCL_FUTURE
    try:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    except (OSError, ValueError):  # no CAP_SYS_RESOURCE, as in many containers
        shortfalls.append(
            f"memory that is allocated later may be swapped out (RLIMIT_MEMLOCK is {limit_bytes} bytes and can't be raised)"
        )
        flags = _MCL_CURRENT
    if library.mlockall(flags) != 0:
        shortfalls.append(f"memory may be swapped out (mlockall: {os.strerror(ctypes.get_errno())})")
        return False
    return True


def _has_capability(number: int) -> bool:
    """Tell whether the effective set (CapEff, hex) holds a capability."""
    status = Path("/proc/self/status").read_text(encoding="utf-8", errors="replace")
    line = next(line for line in status.splitlines() if line.startswith("CapEff:"))
    return bool(int(line.split()[1], 16) >> number & 1)
