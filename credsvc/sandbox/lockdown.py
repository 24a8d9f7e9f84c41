"""The lock-down of a sandbox worker, before it sees any source (docs/adr/0007), in the one order that works.

  1 the channel on fd 3, 0-2 on /dev/null, the status pipe on 4, all else closed
  2 root drops to a numeric user of this worker's own
  3 dumpable for a moment, user namespace, one identity mapped
  4 the other namespaces
  5 an empty read-only root
  6 fork: the worker is pid 1; on the zygote's `go` it asks to die with the zygote, and leads its own session
  7 capabilities and securebits
  8 resource limits
  9 no_new_privs, no executable memory (MDWE, where the kernel has it)
 10 Landlock, denying everything
 11 not dumpable; the status pipe closes
 12 seccomp

Rules:
- A step that fails ends the process. The reason goes up the status pipe, and no module code has been near the
  process yet.
- Namespaces (3-6) and Landlock (10) are left out only on an operator's explicit word; seccomp never.
- setsid() matters: process groups cross pid namespaces, and without it kill(0, SIGKILL) reached the zygote.

The status pipe carries lines of text: `pid N` once, then `locked`, or `failed STEP: REASON`.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
from dataclasses import dataclass
from typing import Final, NoReturn

from credsvc.sandbox import kernel, landlock, namespaces, privileges, seccomp
from credsvc.sandbox.kernel import LockdownError, prctl

__all__ = ["DROPPABLE", "GO", "Layers", "lock_down"]

_STATUS_FD: Final = 4
_FAILED: Final = 70  # EX_SOFTWARE
GO: Final = b"g"
DROPPABLE: Final = ("namespaces", "landlock")


@dataclass(frozen=True, slots=True, kw_only=True)
class Layers:
    """Which of the droppable layers are in force."""

    namespaces: bool
    landlock: bool

    @classmethod
    def without(cls, names: frozenset[str]) -> Layers:
        """Return all layers but the named ones, each of which must be in `DROPPABLE`."""
        return cls(namespaces="namespaces" not in names, landlock="landlock" not in names)


def lock_down(layers: Layers, *, uid: int | None, channel_fd: int, status_fd: int) -> None:
    """Turn this freshly forked process into a locked worker; returns only in the worker, with the channel on
    fd 3.

    `uid` is the numeric user to become (the zygote is root) or None. Never raises: a failure is reported and
    exits.
    """
    try:
        _arrange_descriptors(channel_fd, status_fd)  # 1.
        # 2. Before the user namespace: root mapped into it would still own what the host's root owns.
        if uid is not None:
            if not layers.namespaces:
                privileges.drop_bounding_set()  # needs CAP_SETPCAP, which goes with root
            privileges.become(uid)
        if layers.namespaces:
            _enter_namespaces()  # 3 to 6.
        else:
            _report(f"pid {os.getpid()}")
        _settle()  # 6.
        _give_up_rights(layers)  # 7 to 11.
        # 11. Reported before step 12, which allows no write but to fd 3. If the filter can't be installed the
        #     process exits, and the host's first request meets end of file.
        _report("locked")
        os.close(_STATUS_FD)
        seccomp.install()  # 12. Last: every step above needs a system call that it refuses.
    except LockdownError as exc:
        _fail(str(exc))
    except OSError as exc:
        _fail(f"unexpected {exc.strerror}")


def _arrange_descriptors(channel_fd: int, status_fd: int) -> None:
    """Step 1. Both go out of the way first: the originals may have the numbers 0 to 4."""
    high_status = fcntl.fcntl(status_fd, fcntl.F_DUPFD, 10)
    high_channel = fcntl.fcntl(channel_fd, fcntl.F_DUPFD, 10)
    null = os.open("/dev/null", os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    os.dup2(high_channel, seccomp.CHANNEL_FD)
    os.dup2(high_status, _STATUS_FD)
    # Everything else that the zygote holds: its control sockets, and other workers' channels.
    os.closerange(_STATUS_FD + 1, 1 << 16)


def _enter_namespaces() -> None:
    """Steps 3 to 6."""
    # 3. The files in /proc/self belong to root while a process is not dumpable (proc_pid(5)), and the maps
    #    must be written as the user that it has become.
    prctl("dumpable", kernel.PR_SET_DUMPABLE, 1)
    namespaces.enter_user_namespace()
    # 4. In a call of its own: the capabilities for it come with the user namespace.
    namespaces.unshare_the_rest()
    # 5. After the mount namespace, so that nobody else sees the mounts.
    namespaces.empty_root()
    # 6. unshare(CLONE_NEWPID) moves only children: the child is pid 1 of the new namespace, and the process
    #    between has nothing left to do. The zygote reaps it, and as a subreaper becomes the worker's parent.
    pid = os.fork()
    if pid != 0:
        _report(f"pid {pid}")
        os._exit(0)


def _settle() -> None:
    """Rest of step 6: wait until the zygote is our parent, which it says by `go`.

    The parent-death signal comes when the *parent at that time* ends (prctl(2)). Asked for sooner, the end of
    the process between would kill us: a process closes its files before it hands over its children. A zygote
    that is gone shows as end of file here, or as a broken pipe at the next report.
    """
    if os.read(seccomp.CHANNEL_FD, 1) != GO:
        raise LockdownError("wait for the zygote", 0)
    prctl("parent death signal", kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
    os.setsid()


def _give_up_rights(layers: Layers) -> None:
    """Steps 7 to 11."""
    privileges.drop_capabilities()  # 7. While the bounding set may still be emptied.
    privileges.limit_resources()  # 8. Lowering needs no right; raising would.
    # 9. Landlock and seccomp ask for it from a process without CAP_SYS_ADMIN (seccomp(2), landlock(7)).
    prctl("no_new_privs", kernel.PR_SET_NO_NEW_PRIVS, 1)
    _refuse_executable_memory()
    if layers.landlock:
        landlock.deny_everything()  # 10.
    # 11. No process of the same user may read the worker's memory or take its descriptors (ptrace(2)).
    prctl("not dumpable", kernel.PR_SET_DUMPABLE, 0)


def _refuse_executable_memory() -> None:
    """PR_SET_MDWE came with Linux 6.3; before that seccomp alone refuses executable memory."""
    try:
        prctl("mdwe", kernel.PR_SET_MDWE, 1)
    except LockdownError as exc:
        if exc.errno != errno.EINVAL:
            raise


def _report(line: str) -> None:
    os.write(_STATUS_FD, line.encode("ascii", "replace") + b"\n")


def _fail(reason: str) -> NoReturn:
    try:
        _report(f"failed {reason}")
    finally:
        os._exit(_FAILED)
