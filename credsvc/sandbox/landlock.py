"""Landlock for a sandbox worker: a rule set that handles everything this kernel knows and allows nothing.

Rules:
- The newest ABI of the kernel is used: file actions from ABI 1, TCP from 4, abstract sockets and signals from
  6.
- Landlock does not cover stat, chdir or access (landlock(7), "Caveats"); the empty root and seccomp do.
- A kernel without Landlock is an error. Only the operator's explicit setting leaves this layer out.

Source: include/uapi/linux/landlock.h, landlock(7).
"""

from __future__ import annotations

import ctypes
import os
import struct
from typing import Final

from credsvc.sandbox.kernel import LockdownError, raw

__all__ = ["build_ruleset", "deny_everything", "supported_abi"]

_CREATE_RULESET_VERSION: Final = 1
# File access bits known to each ABI: 13 at first, then REFER (2), TRUNCATE (3) and IOCTL_DEV (5). A bit that
# a kernel does not know is EINVAL, so a rule set names exactly those of its ABI.
_FILE_BITS: Final = {1: 13, 2: 14, 3: 15, 4: 15}
_FILE_BITS_NEWEST: Final = 16
_NET_BITS: Final = 0b11  # BIND_TCP, CONNECT_TCP
_SCOPE_BITS: Final = 0b11  # ABSTRACT_UNIX_SOCKET, SIGNAL


def supported_abi() -> int:
    """Return the kernel's Landlock ABI (1 or more), or raise `LockdownError` where there is none."""
    # With this flag the call makes nothing and gives the ABI; -1 (ENOSYS, EOPNOTSUPP) is a kernel without it.
    abi = raw("landlock_create_ruleset", None, 0, _CREATE_RULESET_VERSION, step="landlock")
    if abi < 1:
        raise LockdownError("landlock", 0)
    return abi


def build_ruleset(abi: int) -> bytes:
    """Return the `struct landlock_ruleset_attr` (u64 fs, u64 net, u64 scoped) that handles all this
    ABI can.
    """
    # struct landlock_ruleset_attr grew with the ABI, and its size is an argument of the call:
    #   u64 handled_access_fs | u64 handled_access_net (ABI 4) | u64 scoped (ABI 6)
    files = (1 << _FILE_BITS.get(abi, _FILE_BITS_NEWEST)) - 1
    if abi < 4:
        return struct.pack("Q", files)
    if abi < 6:
        return struct.pack("QQ", files, _NET_BITS)
    return struct.pack("QQQ", files, _NET_BITS, _SCOPE_BITS)


def deny_everything() -> None:
    """Put this process under a rule set without rules; needs no_new_privs and one free descriptor."""
    # No landlock_add_rule: what is handled and not allowed by a rule is denied.
    attributes = build_ruleset(supported_abi())
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    ruleset_fd = raw("landlock_create_ruleset", buffer, len(attributes), 0)
    try:
        raw("landlock_restrict_self", ruleset_fd, 0)
    finally:
        os.close(ruleset_fd)
