"""The user that each role of a service runs as.

Rules:
- In a service started as root, each role has a numeric user and group of its own, counted from a base. None
  needs an account in /etc/passwd.
- Otherwise, or where those users can't read the interpreter, all roles share the caller's user: separation by
  memory only, and `readyz` and `docs/security.md` claim less.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import IntEnum

BASE_VARIABLE = "OSTIARY_ROLE_UID_BASE"
"""From a supervisor to its roles: the base of their users; empty where all share one."""


class RoleName(IntEnum):
    """The roles, with their offset from the base."""

    # Never renumbered: the files of a home that exists belong to these users.
    KEYHOLDER = 0
    RECORDER = 1
    FRONT = 2
    ADMIN = 3
    RESPONDER = 4
    SANDBOX = 5
    STATUS = 6


# Apart from the roles' own numbers, with room for three more roles: a group that several roles join.
READERS_OFFSET = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleUsers:
    """The users of one service's roles; with `base` None all share the caller's."""

    base: int | None

    @property
    def separated(self) -> bool:
        """Whether each role has a user of its own."""
        return self.base is not None

    def uid(self, role: RoleName) -> int:
        """The role's user."""
        return os.getuid() if self.base is None else self.base + role

    def gid(self, role: RoleName) -> int:
        """The role's own group, which has the number of its user."""
        return os.getgid() if self.base is None else self.base + role

    def readers_gid(self) -> int:
        """The group that may read the store."""
        return os.getgid() if self.base is None else self.base + READERS_OFFSET

    def become(self, role: RoleName) -> None:
        """Drop root for the role's user, for good; does nothing where roles share a user."""
        if self.base is None or os.getuid() != 0:
            return
        # 1. Supplementary groups, while still root. 2. The group. 3. The user, last: after it neither of the
        # others may be changed (setgroups(2), setresgid(2)). Real, effective and saved ids all change, so no
        # way leads back ("Setuid Demystified", Chen, Wagner and Dean, USENIX Security 2002).
        reads = role not in {RoleName.KEYHOLDER, RoleName.SANDBOX}
        os.setgroups([self.readers_gid()] if reads else [])
        gid, uid = self.gid(role), self.uid(role)
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)


def role_users_from_environment() -> RoleUsers:
    """Return the users that the supervisor passed on; a shared one where none did."""
    base = os.environ.get(BASE_VARIABLE, "")
    return RoleUsers(base=int(base) if base else None)
