"""Namespaces of a sandbox worker: one mapped identity, no network, no IPC, an empty read-only root.

Rules:
- Works for root that has dropped to a numeric user and for a plain user alike: both own the new user
  namespace.
- The worker becomes pid 1 of its pid namespace by a second fork (`lockdown`), since unshare(2) only moves
  children.
- The old root is detached; what remains is a tmpfs of one page, mounted read-only, in which nothing can be
  made.

Source: user_namespaces(7), pid_namespaces(7), pivot_root(2) (the pivot_root(".", ".") form).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from credsvc.sandbox.kernel import LockdownError, mount, raw, umount

__all__ = ["empty_root", "enter_user_namespace", "unshare_the_rest"]

_CLONE_NEWNS: Final = 0x00020000
_CLONE_NEWCGROUP: Final = 0x02000000
_CLONE_NEWUTS: Final = 0x04000000
_CLONE_NEWIPC: Final = 0x08000000
_CLONE_NEWUSER: Final = 0x10000000
_CLONE_NEWPID: Final = 0x20000000
_CLONE_NEWNET: Final = 0x40000000

_MS_RDONLY_NOSUID_NODEV_NOEXEC: Final = 0x1 | 0x2 | 0x4 | 0x8
_MS_REC_PRIVATE: Final = 0x4000 | 0x40000
_MNT_DETACH: Final = 2

# nobody, the kernel's overflow id: whatever else exists is shown as the same.
_INNER_ID: Final = 65534
# Any directory that every machine has; it is covered for the time of the exchange only.
_MOUNT_POINT: Final = b"/tmp"


def enter_user_namespace() -> None:
    """Create a user namespace in which only our own user and group exist, as 65534; the process must be
    dumpable.
    """
    # Asked before: in the new namespace both are the overflow id until the maps are written.
    uid, gid = os.geteuid(), os.getegid()
    raw("unshare", _CLONE_NEWUSER, step="unshare(user)")
    # First: an unprivileged process may write gid_map only after it has given up setgroups(2), since leaving
    # a group could open files that deny that group (user_namespaces(7), CVE-2014-8989).
    _write_map("setgroups", "deny")
    _write_map("uid_map", f"{_INNER_ID} {uid} 1")
    _write_map("gid_map", f"{_INNER_ID} {gid} 1")


def unshare_the_rest() -> None:
    """Leave network, IPC, mounts, host name and cgroup behind; children will be in a new pid namespace."""
    raw(
        "unshare",
        _CLONE_NEWNET | _CLONE_NEWIPC | _CLONE_NEWNS | _CLONE_NEWUTS | _CLONE_NEWCGROUP | _CLONE_NEWPID,
        step="unshare(net, ipc, mount, uts, cgroup, pid)",
    )


def empty_root() -> None:
    """Exchange the root for an empty read-only tmpfs and detach the old one."""
    # Private first: what is mounted below must not propagate to the host's mounts (mount_namespaces(7)).
    mount("mount private", b"none", b"/", b"", _MS_REC_PRIVATE, b"")
    # One page and two inodes, of which the root is one: nothing could be kept there even if it were writable.
    options = b"size=4k,nr_inodes=2,mode=0555"
    mount("mount tmpfs", b"tmpfs", _MOUNT_POINT, b"tmpfs", _MS_RDONLY_NOSUID_NODEV_NOEXEC, options)
    os.chdir(_MOUNT_POINT)
    # The old root comes to lie on top of the new one at the same point, and is detached at once: no directory
    # is needed to put it into, and none can be made here (pivot_root(2), NOTES).
    raw("pivot_root", b".", b".")
    umount("detach the old root", b".", _MNT_DETACH)
    os.chdir("/")


def _write_map(name: str, text: str) -> None:
    try:
        Path(f"/proc/self/{name}").write_text(text, encoding="ascii")
    except OSError as exc:
        raise LockdownError(f"write {name}", exc.errno or 0) from exc
