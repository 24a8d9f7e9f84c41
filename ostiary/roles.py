"""How a service's roles are started: their users, their order, their supervisor.

Rules:
- Every role is a process of its own and, where root started the service, a user of its own.
- The keyholder and the sandbox's zygote start as the supervisor's user and give up root themselves: one reads
  the key-encryption key first, the other makes namespaces.
- The supervisor holds no secret; this module is imported by it and by the commands that prepare a home, by no
  role.
"""

from __future__ import annotations

import contextlib
import logging
import os
import stat
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from ostiary.edge.home import Place, ServiceHome
from ostiary.edge.users import RoleName, RoleUsers
from ostiary.errors import Misconfigured
from ostiary.supervisor import Role, Supervisor, User, can_run_as

_log = logging.getLogger("ostiary.roles")
# glibc overwrites what is freed (mallopt(3), M_PERTURB); read before main, so it is the supervisor's to say.
_WIPES_FREED = {"GLIBC_TUNABLES": "glibc.malloc.perturb=165"}


def supervise(
    place: Place,
    program: str,
    roles: Sequence[RoleName],
    *,
    own_argv: Mapping[RoleName, Sequence[str]],
    inherited: Mapping[RoleName, tuple[int, ...]],
) -> None:
    """Start `python -m PROGRAM ROLE --home DIR` for each role (or its own argv), in order, and keep them
    running.

    `inherited` are descriptors that a role keeps over its exec, again at each restart.
    """
    place.home.lay_out(place.users)
    argv = [sys.executable, "-m", program]
    started = [
        Role(
            name=role.name.lower(),
            argv=own_argv.get(role) or [*argv, role.name.lower(), "--home", os.fspath(place.home.path)],
            user=_user(place.users, role),
            environment=_WIPES_FREED if role is RoleName.KEYHOLDER else {},
            inherited=inherited.get(role, ()),
        )
        for role in roles
    ]
    Supervisor(started, status_path=place.home.roles).run()


def _user(users: RoleUsers, role: RoleName) -> User | None:
    # The keyholder and the sandbox's zygote give up root themselves: one reads a key first, the other makes
    # namespaces.
    if not users.separated or role in {RoleName.KEYHOLDER, RoleName.SANDBOX}:
        return None
    return User(uid=users.uid(role), gid=users.gid(role), groups=(users.readers_gid(),))


def choose_users(base: int, program: str, home: Path) -> RoleUsers:
    """A user for each role where this process is root and those users can enter the home and run this Python;
    else one for all.
    """
    if os.getuid() != 0:
        return RoleUsers(base=None)
    users = RoleUsers(base=base)
    probe = User(uid=users.uid(RoleName.RECORDER), gid=users.gid(RoleName.RECORDER))
    closed = next((parent for parent in home.parents if not parent.stat().st_mode & stat.S_IXOTH), None)
    if closed is not None:
        reason = f"other users can't enter '{closed}': put the home where they can"
    elif not can_run_as(probe, [program]):
        reason = f"uid {probe.uid} can't run {sys.executable}: install it where all may read"
    else:
        return users
    _log.warning("roles-share-a-user", extra={"reason": reason})
    return RoleUsers(base=None)


def require_socket(home: ServiceHome, service: str) -> None:
    """Raise Misconfigured where a service was never laid out."""
    with contextlib.suppress(OSError):
        if home.config.is_file():
            return
    raise Misconfigured(f"no {service} at '{home.path}': run `ostiary {service} init` first, or check --home")
