"""One process of a credentials service: `python -m credsvc.role ROLE --home DIR`, started by its supervisor."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import click

from credsvc.config import MIGRATIONS, SERVICE, Config
from credsvc.sandbox.control import zygote_argv
from ostiary.edge import config as config_file
from ostiary.edge import log
from ostiary.edge.files import read_limited
from ostiary.edge.home import ServiceHome
from ostiary.edge.kek import load_kek
from ostiary.edge.passphrase_file import passphrase_from_file
from ostiary.edge.users import RoleName, RoleUsers, tell_roles, told_by_supervisor
from ostiary.keyholder.engine import Evaluator
from ostiary.keyholder.keys import KEYS_PURPOSE, CredentialKeys, open_keys
from ostiary.keyholder.seal import Sealer
from ostiary.keyholder.sealed_credential import CREDENTIAL_PURPOSE
from ostiary.recorder.database import sqlite_url
from ostiary.roles import Place, choose_users, run_admin, run_keyholder, run_recorder, supervise

_MAX_SEALED_BYTES = 64 * 1024


def load_place(home_path: Path) -> tuple[Config, Place]:
    """The service's settings and place, for one of its roles."""
    home = ServiceHome(home_path)
    config = config_file.load(home.config, Config)
    return config, _place(config, home, told_by_supervisor())


def _place(config: Config, home: ServiceHome, users: RoleUsers) -> Place:
    return Place(home=home, users=users, database_url=config.database_url or sqlite_url(home.database))


def serve(home_path: Path, listen: str, claim_fd: int) -> None:
    """Be the supervisor of the whole service; `claim_fd` is a sealed memfd with the claim token, for the front."""
    home = ServiceHome(home_path)
    config = config_file.load(home.config, Config)
    users = choose_users(config.role_uid_base, "credsvc.role", home_path)
    place = _place(config, home, users)
    tell_roles(users)
    supervise(
        place,
        "credsvc.role",
        (RoleName.SANDBOX, RoleName.KEYHOLDER, RoleName.RECORDER, RoleName.ADMIN, RoleName.FRONT),
        own_argv={
            RoleName.SANDBOX: _zygote_argv(config, place),
            RoleName.FRONT: [
                *(sys.executable, "-m", "credsvc.role", "front", "--home", os.fspath(home.path)),
                *("--listen", listen, "--claim-fd", str(claim_fd)),
            ],
        },
        inherited={RoleName.FRONT: (claim_fd,)},
    )


def _zygote_argv(config: Config, place: Place) -> list[str]:
    allowed = frozenset({place.users.uid(RoleName.FRONT)})
    return zygote_argv(place.home.channel("sandbox"), allowed_uids=allowed, without=config.sandbox_without)


def _keyholder(config: Config, place: Place) -> None:
    def unsealed() -> tuple[Evaluator, bytes]:
        # Imported here: the formula engine is the one large thing the keyholder needs, and only after it was hardened.
        from ostiary.keyholder.credentials import CredentialEvaluator  # noqa: PLC0415

        directory, ask = place.home.keyholder, passphrase_from_file
        kek = load_kek(config.kek, config.application, SERVICE, directory=directory, ask=ask)
        blob = read_limited(place.home.sealed_keys, limit_bytes=_MAX_SEALED_BYTES)
        keys = open_keys(blob, CredentialKeys, Sealer(kek, purpose=KEYS_PURPOSE))
        return CredentialEvaluator(keys, Sealer(kek, purpose=CREDENTIAL_PURPOSE)), keys.ledger_key

    run_keyholder(place, config.origin, unsealed)


def _recorder(config: Config, place: Place) -> None:
    from credsvc.recording import CredentialRecording  # noqa: PLC0415 - each role imports what it needs, no more
    from credsvc.tables import LEDGER  # noqa: PLC0415
    from ostiary.recorder.database import open_for_writing  # noqa: PLC0415
    from ostiary.recorder.migrate import upgrade  # noqa: PLC0415

    engine = open_for_writing(place.database_url)
    upgrade(engine, migrations=MIGRATIONS)
    engine.dispose()
    channels = {"front": RoleName.FRONT, "admin": RoleName.ADMIN}
    run_recorder(place, CredentialRecording(config.application), LEDGER, channels)


def _admin(config: Config, place: Place) -> None:
    from credsvc.verbs import make_verbs  # noqa: PLC0415

    run_admin(place, lambda recorder, engine: make_verbs(config, recorder, engine), config.operators_gid)


_ROLES: dict[str, Callable[[Config, Place], None]] = {
    "keyholder": _keyholder,
    "recorder": _recorder,
    "admin": _admin,
}


@click.command()
@click.argument("role", type=click.Choice([*_ROLES, "front"]))
@click.option("--home", "home_path", type=click.Path(path_type=Path), required=True)
@click.option("--listen", default="")
@click.option("--claim-fd", type=int, default=-1)
def main(role: str, home_path: Path, listen: str, claim_fd: int) -> None:
    """Be one role until the supervisor says stop."""
    log.configure(f"credsvc-{role}")
    config, place = load_place(home_path)
    if role == "front":
        from credsvc.front_role import run  # noqa: PLC0415

        run(config, place, listen=listen, claim_fd=claim_fd)
    else:
        _ROLES[role](config, place)


if __name__ == "__main__":
    main()
