"""The raw kernel interface that the lock-down needs: libc through ctypes, system call numbers, one error
type.

Rules:
- Every call that fails raises `LockdownError` with the step's name; nothing is ignored silently (fail
  closed).
- Numbers are given for x86_64 and aarch64; on any other machine there is no sandbox and nothing starts.
- No third party is in the trusted base: that is why this is ctypes and not a package.

It is called in the zygote and in a worker before the filter is in place; afterwards most of it is refused.

Sources: Linux arch/x86/entry/syscalls/syscall_64.tbl, include/uapi/asm-generic/unistd.h,
include/uapi/linux/prctl.h.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from dataclasses import dataclass
from typing import Final

PR_SET_PDEATHSIG: Final = 1
PR_SET_DUMPABLE: Final = 4
PR_CAPBSET_READ: Final = 23
PR_CAPBSET_DROP: Final = 24
PR_SET_SECUREBITS: Final = 28
PR_SET_CHILD_SUBREAPER: Final = 36
PR_SET_NO_NEW_PRIVS: Final = 38
PR_CAP_AMBIENT: Final = 47
PR_SET_MDWE: Final = 65

# use_errno: ctypes keeps errno per thread and swaps it around each call; os-level reads would see later ones.
_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


class LockdownError(Exception):
    """A step of the lock-down did not succeed (errno 0: it did something else than wanted); its process must
    end.
    """

    def __init__(self, step: str, errno: int) -> None:
        super().__init__(f"{step}: {os.strerror(errno)}" if errno else step)
        self.step = step
        self.errno = errno


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """One processor architecture: its audit number and the numbers of the system calls that we name."""

    audit_arch: int
    numbers: dict[str, int]
    # x86_64 alone has a second table behind the same audit number (x32): numbers with bit 30 set.
    has_x32: bool


# Calls added after Linux 5.0 have one number on all architectures (entries from 424 on).
_SHARED = {
    "landlock_create_ruleset": 444, "landlock_add_rule": 445, "landlock_restrict_self": 446,
    "openat2": 437, "faccessat2": 439,
}  # fmt: skip

X86_64: Final = Machine(
    audit_arch=0xC000003E,
    has_x32=True,
    numbers=_SHARED | {
        "read": 0, "write": 1, "open": 2, "close": 3, "stat": 4, "fstat": 5, "lstat": 6, "lseek": 8,
        "mmap": 9, "munmap": 11, "brk": 12, "rt_sigaction": 13, "rt_sigprocmask": 14, "rt_sigreturn": 15,
        "ioctl": 16, "access": 21, "mremap": 25, "madvise": 28, "getpid": 39, "exit": 60, "kill": 62,
        "uname": 63, "fcntl": 72, "getcwd": 79, "readlink": 89, "getuid": 102, "getgid": 104,
        "geteuid": 107, "getegid": 108, "getppid": 110, "capget": 125, "capset": 126, "sigaltstack": 131,
        "pivot_root": 155, "gettid": 186, "futex": 202, "getdents64": 217, "exit_group": 231,
        "openat": 257, "newfstatat": 262, "readlinkat": 267, "faccessat": 269, "unshare": 272,
        "seccomp": 317, "statx": 332,
    },
)  # fmt: skip

AARCH64: Final = Machine(
    audit_arch=0xC00000B7,
    has_x32=False,
    numbers=_SHARED | {
        "getcwd": 17, "fcntl": 25, "ioctl": 29, "pivot_root": 41, "faccessat": 48, "openat": 56,
        "close": 57, "getdents64": 61, "lseek": 62, "read": 63, "write": 64, "readlinkat": 78,
        "newfstatat": 79, "fstat": 80, "capget": 90, "capset": 91, "exit": 93, "exit_group": 94,
        "unshare": 97, "futex": 98, "kill": 129, "sigaltstack": 132, "rt_sigaction": 134,
        "rt_sigprocmask": 135, "rt_sigreturn": 139, "uname": 160, "getpid": 172, "getppid": 173,
        "getuid": 174, "geteuid": 175, "getgid": 176, "getegid": 177, "gettid": 178, "brk": 214,
        "munmap": 215, "mremap": 216, "mmap": 222, "madvise": 233, "seccomp": 277, "statx": 291,
    },
)  # fmt: skip

_MACHINES = {"x86_64": X86_64, "aarch64": AARCH64}


def this_machine() -> Machine:
    """Return the table of the running machine, or raise `LockdownError` where we have none (32-bit Python
    included).
    """
    machine = _MACHINES.get(platform.machine())
    # A 32-bit Python on a 64-bit kernel has another table of calls. The filter reads the low word of a 64-bit
    # argument at its lower address, which is right on little-endian machines only.
    if machine is None or sys.maxsize < 2**32 or sys.byteorder != "little":
        raise LockdownError(f"machine {platform.machine()!r} has no system call table", 0)
    return machine


def call(step: str, result: int) -> int:
    """Pass on the result of a libc function; raise for -1, with the errno that ctypes kept."""
    if result < 0:
        raise LockdownError(step, ctypes.get_errno())
    return result


def raw(
    name: str, *arguments: int | ctypes.Array[ctypes.c_char] | bytes | None, step: str | None = None
) -> int:
    """Make a system call by name; integers go as longs, buffers by address."""
    # syscall(2) is variadic: an int that ctypes passed as a C int would leave the register's upper half open.
    converted = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    number = this_machine().numbers[name]
    return call(step or name, int(_libc.syscall(ctypes.c_long(number), *converted)))


def prctl(step: str, option: int, *arguments: int) -> int:
    """Set an attribute of this process.

    Unused arguments go as zero: newer options (PR_SET_NO_NEW_PRIVS, PR_SET_MDWE) fail with EINVAL otherwise,
    so that the arguments may get a meaning later (prctl(2)).
    """
    padded = (*arguments, 0, 0, 0, 0)[:4]
    return call(step, int(_libc.prctl(ctypes.c_int(option), *[ctypes.c_ulong(each) for each in padded])))


def mount(step: str, source: bytes, target: bytes, kind: bytes, flags: int, data: bytes) -> int:
    """Attach a file system."""
    return call(step, int(_libc.mount(source, target, kind, ctypes.c_ulong(flags), data)))


def umount(step: str, target: bytes, flags: int) -> int:
    """Detach a file system."""
    return call(step, int(_libc.umount2(target, ctypes.c_int(flags))))
