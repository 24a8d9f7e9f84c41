"""A service in its place: its home, the users of its roles, its store. What a role is given at its start."""

from __future__ import annotations

from dataclasses import dataclass

from ostiary.edge.home import ServiceHome
from ostiary.edge.users import RoleUsers


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a service lives, as whom its roles run, and where its store is."""

    home: ServiceHome
    users: RoleUsers
    database_url: str
