"""What a process may do as itself, taken away: user, groups, capabilities, resource limits.

Rules:
- Root becomes a numeric user that owns nothing; anybody else stays the user that it is.
- Capabilities end empty in every set that can be emptied, and are read back; securebits are locked.
- Limits are backstops: the host's wall deadline and SIGKILL come first. RLIMIT_CPU counts a worker's whole
  life, not a request.

Source: capabilities(7), credentials(7), getrlimit(2).
"""

from __future__ import annotations

import ctypes
import os
import resource
import struct
from typing import Final

from credsvc.sandbox import kernel
from credsvc.sandbox.kernel import LockdownError, prctl, raw

__all__ = ["become", "drop_bounding_set", "drop_capabilities", "limit_resources"]

# A worker's address space is about 24 MiB when it starts. What a module may add runs out within the deadline
# (with 256 MiB, a growing list took longer than that).
ADDRESS_SPACE_BYTES: Final = 64 * 1024 * 1024
# The pool replaces a worker after a fifth of this (`BUSY_S_PER_WORKER`).
CPU_BACKSTOP_S: Final = 300
# Landlock needs one descriptor for a moment, after the limits are set: 0-3 are taken, 4 is the status pipe.
_OPEN_FILES: Final = 6

_CAPABILITY_VERSION_3: Final = 0x20080522
_CAP_SETPCAP: Final = 8
_CAP_LAST_POSSIBLE: Final = 63
_PR_CAP_AMBIENT_CLEAR_ALL: Final = 4
# capabilities(7), "The securebits flags": pairs of a flag and its lock, from the lowest bit on.
#   bits 0-1 NOROOT | 2-3 NO_SETUID_FIXUP | 4-5 KEEP_CAPS (off, locked) | 6-7 NO_CAP_AMBIENT_RAISE
_SECUREBITS: Final = 0b11101111


def become(uid: int) -> None:
    """Drop root for the numeric user and group `uid`, with no other groups. Raises `LockdownError`."""
    try:
        # In this order: without root, groups can no longer be dropped. All three ids each, so that no saved
        # id leads back (setresuid(2)).
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    except OSError as exc:
        raise LockdownError(f"become user {uid}", exc.errno or 0) from exc


def drop_bounding_set() -> None:
    """Empty the bounding set and lock the securebits; needs CAP_SETPCAP."""
    for capability in range(_CAP_LAST_POSSIBLE + 1):
        if not _is_in_bounding_set(capability):
            break
        prctl("drop bounding set", kernel.PR_CAPBSET_DROP, capability)
    prctl("securebits", kernel.PR_SET_SECUREBITS, _SECUREBITS)


def drop_capabilities() -> None:
    """Empty the capability sets of this thread and lock the securebits; the bounding set too where we still
    may.
    """
    # In a user namespace of its own a process has every capability; a plain user outside of one has none to
    # drop.
    effective, _permitted, _inheritable = _read_capabilities()
    if effective & (1 << _CAP_SETPCAP):
        drop_bounding_set()
    prctl("clear ambient capabilities", kernel.PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    raw("capset", _capability_header(), ctypes.create_string_buffer(24))
    # Read back, since nothing else would show a capset that did something else.
    if any(_read_capabilities()):
        raise LockdownError("capabilities are not empty", 0)


def limit_resources() -> None:
    """Set the limits of a worker, hard and soft alike: memory, CPU, and nothing of files, processes or core
    dumps.
    """
    limits = (
        (resource.RLIMIT_AS, ADDRESS_SPACE_BYTES),
        (resource.RLIMIT_CPU, CPU_BACKSTOP_S),
        (resource.RLIMIT_NOFILE, _OPEN_FILES),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
    )
    try:
        for kind, amount in limits:
            resource.setrlimit(kind, (amount, amount))
    except (OSError, ValueError) as exc:
        raise LockdownError("resource limits", getattr(exc, "errno", 0) or 0) from exc


def _is_in_bounding_set(capability: int) -> bool:
    """Say whether the bounding set holds it; the kernel answers EINVAL past the last one that it knows."""
    try:
        return prctl("read bounding set", kernel.PR_CAPBSET_READ, capability) == 1
    except LockdownError:
        return False


def _read_capabilities() -> tuple[int, int, int]:
    """Return (effective, permitted, inheritable) as bit sets."""
    # capget(2), version 3: two structs of u32 effective, u32 permitted, u32 inheritable; the low 32
    # capabilities first.
    data = ctypes.create_string_buffer(24)
    raw("capget", _capability_header(), data)
    low = struct.unpack_from("III", data.raw, 0)
    high = struct.unpack_from("III", data.raw, 12)
    return low[0] | high[0] << 32, low[1] | high[1] << 32, low[2] | high[2] << 32


def _capability_header() -> ctypes.Array[ctypes.c_char]:
    # u32 version, int pid; pid 0 is this thread, and the worker has only one.
    header = struct.pack("Ii", _CAPABILITY_VERSION_3, 0)
    return ctypes.create_string_buffer(header, len(header))
