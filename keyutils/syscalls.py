"""Call add_key(2), request_key(2) and keyctl(2) directly, on x86_64, aarch64 and riscv64.

Rules:
- No libkeyutils and no compiler: ctypes calls syscall(2) of the C library, and releases the GIL meanwhile.
- Each function returns the kernel's result or raises `OSError`; `keyutils.keyring` gives names and meanings.
- Every integer is passed 64 bits wide, because a variadic call leaves a register's upper half undefined.

The numbers are those of <asm/unistd.h> and <linux/keyctl.h>.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import platform
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    Argument = int | bytes | ctypes.Array[ctypes.c_char] | None

# add_key, request_key, keyctl
_NUMBERS = {
    "x86_64": (248, 249, 250),
    "aarch64": (217, 218, 219),
    "riscv64": (217, 218, 219),
}

_TEXT, _LONG = ctypes.c_char_p, ctypes.c_long
_ANY = ctypes.c_void_p  # a number (also a negative one), bytes, a buffer or None

# linux/keyctl.h
KEYCTL_GET_KEYRING_ID = 0
KEYCTL_JOIN_SESSION_KEYRING = 1
KEYCTL_UPDATE = 2
KEYCTL_REVOKE = 3
KEYCTL_CHOWN = 4
KEYCTL_SETPERM = 5
KEYCTL_DESCRIBE = 6
KEYCTL_CLEAR = 7
KEYCTL_LINK = 8
KEYCTL_UNLINK = 9
KEYCTL_SEARCH = 10
KEYCTL_READ = 11
KEYCTL_INSTANTIATE = 12
KEYCTL_SET_REQKEY_KEYRING = 14
KEYCTL_SET_TIMEOUT = 15
KEYCTL_ASSUME_AUTHORITY = 16
KEYCTL_SESSION_TO_PARENT = 18
KEYCTL_REJECT = 19
KEYCTL_INVALIDATE = 21
KEYCTL_GET_PERSISTENT = 22


@functools.cache
def _numbers() -> tuple[int, int, int]:
    """Return the three system call numbers of this machine; raise ENOSYS if they are not known."""
    machine = platform.machine()
    if os.name != "posix" or platform.system() != "Linux" or machine not in _NUMBERS:
        raise OSError(errno.ENOSYS, f"no key retention service known for {platform.system()} on {machine}")
    return _NUMBERS[machine]


@functools.cache
def _function(which: int, *types: Any) -> Callable[..., int]:
    """Bind syscall(2) to one number and its argument types, once per combination."""
    # Indexing makes a new function object each time; attribute access would share one, and its argtypes.
    function = ctypes.CDLL(None, use_errno=True)["syscall"]
    function.restype = ctypes.c_long
    function.argtypes = [ctypes.c_long, *types]
    return functools.partial(function, _numbers()[which])


def _checked(result: int) -> int:
    # use_errno=True gives ctypes a copy of errno per thread, taken right after the call.
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def add_key(
    type_: bytes, description: bytes, payload: bytes | ctypes.Array[ctypes.c_char], keyring: int
) -> int:
    """Add a key to a keyring, or update the one of that type and description; return its serial."""
    call = _function(0, _TEXT, _TEXT, _ANY, _LONG, _LONG)
    return _checked(call(type_, description, payload, len(payload), keyring))


def request_key(type_: bytes, description: bytes, callout: bytes | None, destination: int) -> int:
    """Find a key, or have the kernel make it by an upcall; `callout` None makes none, b"" does."""
    return _checked(_function(1, _TEXT, _TEXT, _TEXT, _LONG)(type_, description, callout, destination))


def keyctl(
    operation: int, first: Argument = 0, second: Argument = 0, third: Argument = 0, fourth: Argument = 0
) -> int:
    """Perform one operation by its number; missing arguments are 0."""
    return _checked(_function(2, _LONG, _ANY, _ANY, _ANY, _ANY)(operation, first, second, third, fourth))
