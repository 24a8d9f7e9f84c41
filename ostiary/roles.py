"""Starting a service's roles: their users, their order, their supervisor.

Rules:
- Every role is a process of its own and, where root started the service, has a user of its own.
- The keyholder and the sandbox's zygote start as the supervisor's user and drop root themselves: the one
  first reads the key-encryption key, the other first creates namespaces.
- The supervisor holds no secret. It imports this module, and so do the commands that prepare a home; no role
  does (docs/architecture.md, "Roles of processes").
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import stat
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from ostiary.edge.home import ServiceHome
from ostiary.edge.home_layout import lay_out
from ostiary.edge.place import Place
from ostiary.edge.users import BASE_VARIABLE, RoleName, RoleUsers
from ostiary.errors import Misconfigured
from ostiary.extras import require_extra
from ostiary.supervisor import READY_TIMEOUT_S, Role, Supervisor, User, can_run_as

_log = logging.getLogger("ostiary.roles")
# glibc overwrites freed memory with this byte (mallopt(3), M_PERTURB). It reads the tunable before main(), so
# only the process that starts the keyholder can set it. Without it, copies of a key stay in the heap after
# everything is freed; with it there are fewer (found by scanning a process from outside), but not none: it
# reaches malloc's blocks, and not the small objects of CPython's own allocator. The price was 19 % of a JSON
# benchmark, which the keyholder alone pays.
_WIPES_FREED = {"GLIBC_TUNABLES": "glibc.malloc.perturb=165"}
# A recorder brings the store to its newest revision before it is ready, in one transaction: killed in the
# middle, it would begin again, each time. A million certificates take about 15 s (ca's migration 0003).
_UPGRADE_TIMEOUT_S = 600.0


def supervise(
    place: Place,
    program: str,
    roles: Sequence[RoleName],
    *,
    own_argv: Mapping[RoleName, Sequence[str]],
    inherited: Mapping[RoleName, tuple[int, ...]],
) -> None:
    """Start `python -m PROGRAM ROLE --home DIR` for each role, in order, and keep them running.

    `own_argv` replaces that command for some roles. `inherited` lists the descriptors that a role inherits,
    at its start and at each restart.
    """
    if place.database_url.startswith("postgresql"):
        require_extra("postgresql", what="a store on PostgreSQL (database_url)")
    # At each start, so that a home restored from a backup gets its owners and modes back.
    lay_out(place.home, place.users)
    argv = [sys.executable, "-m", program]
    started = [
        Role(
            name=role.name.lower(),
            argv=own_argv.get(role) or [*argv, role.name.lower(), "--home", os.fspath(place.home.path)],
            user=_user(place.users, role),
            environment=_WIPES_FREED if role is RoleName.KEYHOLDER else {},
            inherited=inherited.get(role, ()),
            ready_timeout_s=_UPGRADE_TIMEOUT_S if role is RoleName.RECORDER else READY_TIMEOUT_S,
        )
        for role in roles
    ]
    Supervisor(started, status_path=place.home.roles).run()


def _user(users: RoleUsers, role: RoleName) -> User | None:
    # See the module's rules for the two that drop root themselves (`RoleUsers.become`).
    if not users.separated or role in {RoleName.KEYHOLDER, RoleName.SANDBOX}:
        return None
    return User(uid=users.uid(role), gid=users.gid(role), groups=(users.readers_gid(),))


def export_role_users(users: RoleUsers) -> None:
    """Pass the users on to the processes that this one starts, in its environment."""
    os.environ[BASE_VARIABLE] = "" if users.base is None else str(users.base)


def choose_users(base: int, program: str, home: Path) -> RoleUsers:
    """Give each role a user of its own if this process is root; else let all share the caller's.

    1. The process is root.
    2. Other users can enter the home: every directory above it has the execute bit for others.
    3. Another user can run this Python and import the modules of the roles.

    Where 2 or 3 fails, a warning says what to change, and the roles share root: better than not starting,
    and `readyz` reports it.
    """
    # 1.
    if os.getuid() != 0:
        return RoleUsers(base=None)
    users = RoleUsers(base=base)
    # Any role that is not the keyholder does for the probe: none of their users has an account.
    probe = User(uid=users.uid(RoleName.RECORDER), gid=users.gid(RoleName.RECORDER))
    # 2.
    closed = next((parent for parent in home.parents if not parent.stat().st_mode & stat.S_IXOTH), None)
    if closed is not None:
        reason = f"other users can't enter '{closed}': move the home to a directory that they can enter"
    # 3. Typically false for a virtual environment under /root, or a pyenv Python in a private home. To import
    # the program alone shows little: it loads a role's module, and the libraries, only when it is that role.
    elif not can_run_as(probe, [*importlib.import_module(program).ROLES.values()]):
        reason = f"uid {probe.uid} can't run '{sys.executable}': install it where all users can read it"
    else:
        return users
    _log.warning("roles-share-a-user", extra={"reason": reason})
    return RoleUsers(base=None)


def check_initialized(home: ServiceHome, service: str) -> None:
    """Raise Misconfigured where no service was ever initialized."""
    # A home that this user can't look into counts as absent: the message names --home for both.
    with contextlib.suppress(OSError):
        if home.config.is_file():
            return
    raise Misconfigured(f"no {service} in '{home.path}': run `ostiary {service} init` first, or check --home")
