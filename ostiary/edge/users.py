"""Which user each role of a service runs as.

Rules:
- Started as root, each role gets a numeric user and group of its own, counted from a base; nothing needs an
  account in /etc/passwd.
- Otherwise, or where the interpreter is unreadable for those users, all roles share the caller's user:
  separation by memory only, and `readyz` and `docs/security.md` claim less.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import IntEnum

BASE_VARIABLE = "OSTIARY_ROLE_UID_BASE"
"""From a supervisor to its roles: the base of their users, empty where all share one."""


class RoleName(IntEnum):
    """The roles, with their offset from the base."""

    KEYHOLDER = 0
    RECORDER = 1
    FRONT = 2
    ADMIN = 3
    RESPONDER = 4
    SANDBOX = 5
    STATUS = 6


READERS_OFFSET = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleUsers:
    """Users of one service's roles; `base` None means that all share the caller's."""

    base: int | None

    @property
    def separated(self) -> bool:
        """Whether each role has a user of its own."""
        return self.base is not None

    def uid(self, role: RoleName) -> int:
        """The role's user, and group of the same number."""
        return os.getuid() if self.base is None else self.base + role

    def gid(self, role: RoleName) -> int:
        """The role's own group."""
        return os.getgid() if self.base is None else self.base + role

    def readers_gid(self) -> int:
        """The group that may read the store."""
        return os.getgid() if self.base is None else self.base + READERS_OFFSET

    def become(self, role: RoleName) -> None:
        """Give up root for the role's user; nothing where users are shared. Irrevocable."""
        if self.base is None or os.getuid() != 0:
            return
        reads = role not in {RoleName.KEYHOLDER, RoleName.SANDBOX}
        os.setgroups([self.readers_gid()] if reads else [])
        gid, uid = self.gid(role), self.uid(role)
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)


def tell_roles(users: RoleUsers) -> None:
    """Let the processes that this one starts know which users they have."""
    os.environ[BASE_VARIABLE] = "" if users.base is None else str(users.base)


def told_by_supervisor() -> RoleUsers:
    """The users that the supervisor told of; one for all where nobody told."""
    base = os.environ.get(BASE_VARIABLE, "")
    return RoleUsers(base=int(base) if base else None)
