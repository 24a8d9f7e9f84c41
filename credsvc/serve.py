"""A credentials service's supervisor: which roles there are, and in which order they start."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from credsvc.config import Config
from credsvc.home import CLAIM_VARIABLE, LISTEN_VARIABLE, place_of
from credsvc.sandbox.client.control import zygote_argv
from ostiary.address import parse_address
from ostiary.edge import config as config_file
from ostiary.edge.home import ServiceHome
from ostiary.edge.place import Place
from ostiary.edge.users import RoleName
from ostiary.roles import choose_users, export_role_users, supervise

PROGRAM: Final = "credsvc.role"
# In this order: the zygote before any secret is unsealed, the keyholder before any request is read, and each
# role after those that it speaks to.
STARTED: Final = (
    RoleName.SANDBOX,
    RoleName.KEYHOLDER,
    RoleName.RECORDER,
    RoleName.ADMIN,
    RoleName.FRONT,
)


def serve(home_path: Path, listen: str, claim_fd: int) -> None:
    """Be the supervisor of the whole service; `claim_fd` is a sealed memfd with the claim token, for the
    front.
    """
    home = ServiceHome(home_path)
    config = config_file.load(home.config, Config)
    users = choose_users(config.role_uid_base, PROGRAM, home_path)
    place = place_of(config, home, users)
    export_role_users(users)
    os.environ[LISTEN_VARIABLE] = str(parse_address(listen, field="listen"))
    os.environ[CLAIM_VARIABLE] = str(claim_fd)
    supervise(
        place,
        PROGRAM,
        STARTED,
        own_argv={RoleName.SANDBOX: _zygote_argv(config, place)},
        inherited={RoleName.FRONT: (claim_fd,)},
    )


def _zygote_argv(config: Config, place: Place) -> list[str]:
    # Only the front speaks to the sandbox: SO_PEERCRED at the zygote's control socket refuses the others.
    allowed = frozenset({place.users.uid(RoleName.FRONT)})
    return zygote_argv(place.home.channel("sandbox"), allowed_uids=allowed, without=config.sandbox_without)
