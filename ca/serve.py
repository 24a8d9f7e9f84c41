"""A CA's supervisor: its roles, and the order in which they start."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from ca.home import LISTEN_VARIABLE, CAHome
from ostiary.address import parse_address
from ostiary.edge.place import Place
from ostiary.edge.users import RoleName
from ostiary.roles import choose_users, export_role_users, supervise

PROGRAM: Final = "ca.role"
# Each needs the ones before it: nothing is recorded without the keyholder, and responder and front get their
# own certificates from the recorder.
STARTED: Final = (
    RoleName.KEYHOLDER,
    RoleName.RECORDER,
    RoleName.RESPONDER,
    RoleName.ADMIN,
    RoleName.FRONT,
    RoleName.STATUS,
)


def serve(home_path: Path, listen: str | None, roles: tuple[RoleName, ...] = STARTED) -> None:
    """Be the supervisor of the whole service until SIGTERM or SIGINT; Misconfigured names a role that was not
    ready in time.
    """
    home = CAHome.at(home_path)
    config = home.config()
    users = choose_users(config.role_uid_base, PROGRAM, home_path)
    export_role_users(users)
    if listen is not None:
        os.environ[LISTEN_VARIABLE] = str(parse_address(listen, field="listen"))
    place = Place(home=home.places, users=users, database_url=config.database_url)
    supervise(place, PROGRAM, roles, own_argv={}, inherited={})
