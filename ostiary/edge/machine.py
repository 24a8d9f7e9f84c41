"""The abilities of this machine: one probe for each that some part of Ostiary builds on.

Rules:
- A probe changes nothing, needs no privilege, and answers in milliseconds; what it can't determine counts as
  missing.
- A finding is `full`, `reduced` (present, with less strength) or `missing`, and says what was seen.
- One table has each ability's probe, its purpose and its replacement; `docs/security.md` repeats that table.

Numbers are those of the Linux user-space interface (include/uapi), named where they are used.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import shutil
import socket
import struct
import sys
from collections.abc import Callable
from ctypes.util import find_library
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

from keyutils import syscalls


class Level(Enum):
    """How much of an ability the machine has."""

    FULL = "full"
    REDUCED = "reduced"
    MISSING = "missing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a probe saw."""

    level: Level
    seen: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ability:
    """One row: an ability, its purpose, and what replaces it (None: nothing does)."""

    name: str
    needed_for: str
    without: str | None
    probe: Callable[[], Finding]


def _full(seen: str) -> Finding:
    return Finding(level=Level.FULL, seen=seen)


def _reduced(seen: str) -> Finding:
    return Finding(level=Level.REDUCED, seen=seen)


def _missing(seen: str) -> Finding:
    return Finding(level=Level.MISSING, seen=seen)


def _python() -> Finding:
    found = platform.python_version()
    return _full(found) if sys.version_info >= (3, 11) else _missing(f"{found}, wanted 3.11 or later")


def _kernel() -> Finding:
    release = platform.release()
    if platform.system() != "Linux":
        return _missing(platform.system())
    major, minor = (int("".join(filter(str.isdigit, part)) or "0") for part in release.split(".")[:2])
    return _full(release) if (major, minor) >= (6, 12) else _reduced(release)


def _landlock() -> Finding:
    # landlock_create_ruleset(NULL, 0, LANDLOCK_CREATE_RULESET_VERSION = 1) answers the ABI version; 444 on
    # every architecture.
    abi = ctypes.CDLL(None, use_errno=True).syscall(444, None, ctypes.c_size_t(0), 1)
    if abi < 1:
        return _missing("not enabled")
    # 4 (Linux 6.7) adds TCP, 6 (Linux 6.12) adds signals and abstract UNIX sockets.
    return _full(f"ABI {abi}") if abi >= 6 else _reduced(f"ABI {abi}, 6 is full")


def _seccomp() -> Finding:
    actions = Path("/proc/sys/kernel/seccomp/actions_avail")
    if actions.exists() and "kill_process" in actions.read_text():
        return _full("filters")
    return _missing("no filters")


def _user_namespaces() -> Finding:
    child = os.fork()
    if child == 0:
        # unshare(CLONE_NEWUSER) is what the sandbox does first. Distributions forbid it to ordinary users by
        # various settings (kernel.unprivileged_userns_clone, AppArmor), so trying beats reading them. It
        # can't be undone, hence the fork; os._exit, because this copy has nothing to clean up.
        os._exit(0 if ctypes.CDLL(None).unshare(0x10000000) == 0 else 1)
    _, status = os.waitpid(child, 0)
    return _full("allowed") if status == 0 else _missing("refused to this user")


def _key_retention() -> Finding:
    user_keyring = -4  # KEY_SPEC_USER_KEYRING
    try:
        syscalls.keyctl(syscalls.KEYCTL_GET_KEYRING_ID, user_keyring, 0)
    except OSError as error:
        return _missing(os.strerror(error.errno or 0).lower())
    return _full("answers")


def _request_key() -> Finding:
    if not os.access("/sbin/request-key", os.X_OK):
        return _missing("no /sbin/request-key (Debian package keyutils)")
    # The kernel runs that very path (security/keys/request_key.c), wherever else the program may be
    # installed.
    if os.geteuid() != 0:
        return _reduced("present; only root can register the handler")
    return _full("/sbin/request-key")


def _fuse() -> Finding:
    lacking = [
        *([] if os.access("/dev/fuse", os.R_OK | os.W_OK) else ["/dev/fuse"]),
        *([] if shutil.which("fusermount3") else ["fusermount3"]),
        *([] if find_library("fuse3") else ["libfuse3"]),
    ]
    return _missing("no " + ", ".join(lacking)) if lacking else _full("/dev/fuse, libfuse3")


def _peer_pidfd() -> Finding:
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with here, there:
        try:
            # SO_PEERPIDFD = 77 (asm-generic/socket.h); Python's socket module has no name for it.
            pidfd = struct.unpack("i", here.getsockopt(socket.SOL_SOCKET, 77, 4))[0]
        except OSError:
            return _missing("not in this kernel (Linux 6.5)")
        os.close(pidfd)
    return _full("answers")


def _cgroup2() -> Finding:
    if Path("/sys/fs/cgroup/cgroup.controllers").exists():
        return _full("/sys/fs/cgroup")
    # systemd's hybrid layout: version 2 names the processes, its controllers stay with version 1.
    if Path("/sys/fs/cgroup/unified/cgroup.procs").exists():
        return _reduced("beside version 1, at /sys/fs/cgroup/unified")
    return _missing("not mounted")


def _locked_memory() -> Finding:
    soft, _hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if soft == resource.RLIM_INFINITY or os.geteuid() == 0:
        return _full("unlimited" if soft == resource.RLIM_INFINITY else "unlimited for root")
    # Twice what mlockall(2) needs for a keyholder. The usual limit of 8 MiB fails even for a bare
    # interpreter, which maps 26 MB.
    enough = 64 * 1024 * 1024
    return (_full if soft >= enough else _reduced)(f"{soft // 1024} KiB")


def _memfd() -> Finding:
    os.close(os.memfd_create("probe", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING))
    return _full("sealed memfd")


def _separate_users() -> Finding:
    return (
        _full("root starts each role as its own user")
        if os.geteuid() == 0
        else _missing(f"uid {os.geteuid()}")
    )


ABILITIES: Final = (
    Ability(name="Python", needed_for="everything", without=None, probe=_python),
    Ability(
        name="Linux kernel",
        needed_for="full strength of the sandbox and of peer identification (6.12)",
        without="the rows below say what an older kernel lacks",
        probe=_kernel,
    ),
    Ability(
        name="role users",
        needed_for="a separate user for each role, so that a compromised front can't write the store",
        without="roles share a user: separation by process and memory only; readyz reports it",
        probe=_separate_users,
    ),
    Ability(name="seccomp", needed_for="the sandbox of credential modules", without=None, probe=_seccomp),
    Ability(
        name="Landlock",
        needed_for="the sandbox: no file, no TCP (ABI 4), no signal (ABI 6)",
        without="seccomp, an empty root directory and namespaces deny the same",
        probe=_landlock,
    ),
    Ability(
        name="user namespaces",
        needed_for="the sandbox: empty root directory, no network, no other process, without privilege",
        without="seccomp and Landlock alone; a service started as root creates the namespaces as root",
        probe=_user_namespaces,
    ),
    Ability(
        name="key retention",
        needed_for="agents' keys in the kernel; the manager's keys across its restart; the keyring backend",
        without="agents get keys by the manager's socket; another backend keeps the key-encryption key",
        probe=_key_retention,
    ),
    Ability(
        name="request-key",
        needed_for="request_key(2): the kernel asks the manager (upcall)",
        without="agents claim by the socket or `ostiary agent exec`",
        probe=_request_key,
    ),
    Ability(
        name="FUSE",
        needed_for="certificate and key as files for software that wants paths",
        without="`ostiary agent claim --out DIR` writes files once; nothing renews them",
        probe=_fuse,
    ),
    Ability(
        name="SO_PEERPIDFD",
        needed_for="identifying the process at the other end of a socket without a race (Linux 6.5)",
        without="pidfd_open on the pid of SO_PEERCRED, with its start time read before and after",
        probe=_peer_pidfd,
    ),
    Ability(
        name="cgroup v2",
        needed_for="scopes: an agent lives as long as its cgroup",
        without="scopes by process (pidfd) or lease",
        probe=_cgroup2,
    ),
    Ability(
        name="locked memory",
        needed_for="keeping the keyholder's memory out of swap",
        without="no swap, or encrypted swap; or LimitMEMLOCK=infinity in the unit",
        probe=_locked_memory,
    ),
    Ability(
        name="memfd",
        needed_for="handing a TLS key to OpenSSL without a file",
        without=None,
        probe=_memfd,
    ),
)


def examine(ability: Ability) -> Finding:
    """Run one probe; an ability whose probe fails is missing."""
    try:
        return ability.probe()
    except (OSError, ValueError) as error:
        return _missing(str(error))
