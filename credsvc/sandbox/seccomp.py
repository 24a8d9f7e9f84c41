"""The system call filter of a sandbox worker: what CPython needs to serve requests on fd 3, and nothing else.

Rules:
- Allowed: read and write on fd 3 only, anonymous memory that is never executable, futex and the signal
  plumbing, exit.
- Answered with EPERM, so that Python code sees a clean error: files, stat, identity, ioctl, kill.
- All else kills the process (SIGSYS), as do a foreign architecture and the x32 table.
- There is no switch for this layer anywhere: `install` succeeds or raises.

`build_filter` is pure (bytes out), so that tests read the program without loading it.
Source: Documentation/userspace-api/seccomp_filter.rst; include/uapi/linux/{filter,seccomp,bpf_common}.h.
"""

from __future__ import annotations

import ctypes
import errno
import struct
from typing import Final

from credsvc.sandbox.kernel import Machine, raw, this_machine

__all__ = ["CHANNEL_FD", "build_filter", "install"]

CHANNEL_FD: Final = 3

# What CPython 3.11 to 3.13 calls while it serves requests, found by running with everything else killed. Not
# needed and so not here: clock_gettime (answered by the vDSO), getrandom (the hash seed is drawn at start).
# mprotect is left out: it could make memory executable.
_ALLOWED: Final = (
    "munmap", "brk", "mremap", "madvise", "futex", "rt_sigaction", "rt_sigprocmask", "rt_sigreturn",
    "sigaltstack", "exit", "exit_group",
)  # fmt: skip
# What Python code may stumble into, such as a lazy import: an OSError says more than a dead worker.
_REFUSED: Final = (
    "open", "openat", "openat2", "close", "stat", "fstat", "lstat", "newfstatat", "statx", "access",
    "faccessat", "faccessat2", "readlink", "readlinkat", "getcwd", "getdents64", "lseek", "ioctl", "fcntl",
    "getpid", "getppid", "gettid", "getuid", "geteuid", "getgid", "getegid", "uname", "kill",
)  # fmt: skip

_LOAD = 0x20  # BPF_LD | BPF_W | BPF_ABS
_JUMP_EQUAL = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_JUMP_GREATER_EQUAL = 0x35  # BPF_JMP | BPF_JGE | BPF_K
_JUMP_ANY_BIT = 0x45  # BPF_JMP | BPF_JSET | BPF_K
_RETURN = 0x06  # BPF_RET | BPF_K

_KILL = 0x80000000  # SECCOMP_RET_KILL_PROCESS
_ALLOW = 0x7FFF0000
_EPERM = 0x00050000 | errno.EPERM

# struct seccomp_data, which the program reads:
#   0 u32 nr | 4 u32 arch | 8 u64 instruction_pointer | 16 u64 args[6]
_OFFSET_NUMBER = 0
_OFFSET_ARCH = 4
_X32_BIT = 0x40000000
_PROT_READ_WRITE = 0x3
_MAP_ANONYMOUS = 0x20
_SECCOMP_SET_MODE_FILTER = 1


def build_filter(machine: Machine) -> bytes:
    """Return the filter program as packed `struct sock_filter`s (8 bytes each: u16 code, u8 jt, u8 jf, u32
    k).
    """
    numbers = machine.numbers
    # The architecture comes first: the same number is another call on another one (on x86_64, int 0x80 makes
    # calls of i386), and a filter that does not look is bypassed (seccomp_filter.rst, "Pitfalls").
    program = [
        _load(_OFFSET_ARCH),
        _skip_if(_JUMP_EQUAL, machine.audit_arch, 1),
        _return(_KILL),
        _load(_OFFSET_NUMBER),
    ]
    if machine.has_x32:
        # x32 calls have the audit number of x86_64 and bit 30 set in theirs; a list of numbers misses them.
        program += [_skip_unless(_JUMP_GREATER_EQUAL, _X32_BIT, 1), _return(_KILL)]
    for name in ("read", "write"):
        program += _block(numbers[name], _only_channel())
    program += _block(numbers["mmap"], _only_anonymous())
    for name in _ALLOWED:
        program += _block(numbers[name], [_return(_ALLOW)])
    for name in _REFUSED:
        if name in numbers:  # aarch64 has no open, stat, access, readlink
            program += _block(numbers[name], [_return(_EPERM)])
    program.append(_return(_KILL))
    return b"".join(program)


def install() -> None:
    """Load the filter into this process for good; needs no_new_privs. Raises `LockdownError`."""
    program = build_filter(this_machine())
    buffer = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog: u16 len, padding to the alignment of a pointer, struct sock_filter *filter.
    header = struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(buffer))
    raw("seccomp", _SECCOMP_SET_MODE_FILTER, 0, ctypes.create_string_buffer(header, len(header)))


def _only_channel() -> list[bytes]:
    """Arguments (fd, ...): fd is an unsigned int to the kernel, so its low word decides."""
    return [_load(_low(0)), _skip_if(_JUMP_EQUAL, CHANNEL_FD, 1), _return(_KILL), _return(_ALLOW)]


def _only_anonymous() -> list[bytes]:
    """Arguments (address, length, prot, flags, ...): prot within READ|WRITE and ANONYMOUS set, high words
    zero.
    """
    return [
        _load(_high(2)), _skip_if(_JUMP_EQUAL, 0, 1), _return(_KILL),
        _load(_low(2)), _skip_unless(_JUMP_ANY_BIT, 0xFFFFFFFF ^ _PROT_READ_WRITE, 1), _return(_KILL),
        _load(_high(3)), _skip_if(_JUMP_EQUAL, 0, 1), _return(_KILL),
        _load(_low(3)), _skip_if(_JUMP_ANY_BIT, _MAP_ANONYMOUS, 1), _return(_KILL),
        _return(_ALLOW),
    ]  # fmt: skip


def _block(number: int, body: list[bytes]) -> list[bytes]:
    """Run `body`, which must end in a return, when the accumulator holds this system call's number."""
    return [_skip_unless(_JUMP_EQUAL, number, len(body)), *body]


# Classic BPF loads 32 bits at a time. Arguments are 64 bits wide; the low word comes first on little-endian
# machines, and `kernel.this_machine` knows no other.


def _low(argument: int) -> int:
    return 16 + 8 * argument


def _high(argument: int) -> int:
    return 20 + 8 * argument


def _load(offset: int) -> bytes:
    return struct.pack("HBBI", _LOAD, 0, 0, offset)


def _skip_if(jump: int, value: int, count: int) -> bytes:
    return struct.pack("HBBI", jump, count, 0, value)


def _skip_unless(jump: int, value: int, count: int) -> bytes:
    return struct.pack("HBBI", jump, 0, count, value)


def _return(action: int) -> bytes:
    return struct.pack("HBBI", _RETURN, 0, 0, action)
