"""A credentials service's home on disk, as each of its roles opens it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from credsvc.config import Config
from ostiary.edge import config as config_file
from ostiary.edge.home import ServiceHome
from ostiary.edge.place import Place
from ostiary.edge.users import RoleUsers, role_users_from_environment
from ostiary.store.database import sqlite_url

MIGRATIONS: Final = "credsvc.store.migrations"
LISTEN_VARIABLE: Final = "OSTIARY_CREDSVC_LISTEN"
"""Where the front listens (HOST:PORT), from `serve` to its roles."""
CLAIM_VARIABLE: Final = "OSTIARY_CREDSVC_CLAIM_FD"
"""The descriptor of the sealed memfd with the claim token, which the front inherits."""


def load_place(home_path: Path) -> tuple[Config, Place]:
    """The service's settings and place, for one of its roles, with the users that the supervisor chose."""
    home = ServiceHome(home_path)
    config = config_file.load(home.config, Config)
    return config, place_of(config, home, role_users_from_environment())


def place_of(config: Config, home: ServiceHome, users: RoleUsers) -> Place:
    """The place of a service with these settings, whose roles have these users."""
    return Place(home=home, users=users, database_url=config.database_url or sqlite_url(home.database))
