"""One process of a CA: `python -m ca.role ROLE --home DIR`, started by its supervisor (`serve`).

Rules:
- Each role imports what it needs, no more: the keyholder's process knows no SQL and no HTTP.
- The supervisor tells its roles in the environment which users they have and where the front listens.
"""

from __future__ import annotations

import grp
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import click

from ca.config import Config, parse_listen
from ca.home import LISTEN_VARIABLE, MIGRATIONS, CAHome
from ostiary.edge import log
from ostiary.edge.files import read_private
from ostiary.edge.home import ServiceHome
from ostiary.edge.kek import load_kek
from ostiary.edge.passphrase_file import passphrase_from_file
from ostiary.edge.users import RoleName, RoleUsers, tell_roles, told_by_supervisor
from ostiary.errors import Misconfigured
from ostiary.keyholder.engine import Evaluator
from ostiary.keyholder.keys import KEYS_PURPOSE, CAKeys, open_keys
from ostiary.keyholder.seal import Sealer
from ostiary.roles import Place, choose_users, run_admin, run_keyholder, run_recorder, supervise

STARTED: Final = (
    RoleName.KEYHOLDER,
    RoleName.RECORDER,
    RoleName.RESPONDER,
    RoleName.ADMIN,
    RoleName.FRONT,
    RoleName.STATUS,
)
_ASKING: Final = {
    "front": RoleName.FRONT,
    "admin": RoleName.ADMIN,
    "responder": RoleName.RESPONDER,
}
_MAX_SEALED_BYTES: Final = 64 * 1024


def serve(home_path: Path, listen: str | None, roles: tuple[RoleName, ...] = STARTED) -> None:
    """Be the supervisor of the whole service until SIGTERM or SIGINT; Misconfigured names a role that did not get ready."""
    home = CAHome(ServiceHome(home_path))
    config = home.config()
    users = choose_users(config.role_uid_base, "ca.role", home_path)
    tell_roles(users)
    if listen is not None:
        os.environ[LISTEN_VARIABLE] = str(parse_listen(listen))
    supervise(_place(home, config, users), "ca.role", roles, own_argv={}, inherited={})


def _place(home: CAHome, config: Config, users: RoleUsers) -> Place:
    return Place(home=home.places, users=users, database_url=config.database_url)


def _keyholder(home: CAHome, place: Place) -> None:
    config = home.config()

    def unsealed() -> tuple[Evaluator, bytes]:
        from ostiary.keyholder.ca import CAEvaluator  # noqa: PLC0415 - after the process was hardened

        kek = load_kek(
            config.kek, config.application, "ca", directory=place.home.keyholder, ask=passphrase_from_file
        )
        blob = read_private(place.home.sealed_keys, limit_bytes=_MAX_SEALED_BYTES)
        keys = open_keys(blob, CAKeys, Sealer(kek, purpose=KEYS_PURPOSE))
        if keys.application != config.application:
            raise Misconfigured(f"the sealed keys are of '{keys.application}', not '{config.application}'")
        return CAEvaluator(keys), keys.ledger_key

    run_keyholder(place, config.origin, unsealed)


def _recorder(home: CAHome, place: Place) -> None:
    from ca.composition import recorder_service  # noqa: PLC0415 - each role imports what it needs, no more
    from ca.tables import LEDGER  # noqa: PLC0415
    from ostiary.recorder.database import open_for_writing  # noqa: PLC0415
    from ostiary.recorder.migrate import upgrade  # noqa: PLC0415

    engine = open_for_writing(place.database_url)
    upgrade(engine, migrations=MIGRATIONS)
    engine.dispose()
    run_recorder(place, recorder_service(home), LEDGER, _ASKING)


def _admin(home: CAHome, place: Place) -> None:
    from ca.verbs import make_verbs  # noqa: PLC0415

    group = _group(home.config().operator_group)
    run_admin(place, lambda recorder, engine: make_verbs(home, recorder, engine), group)


def _group(name: str) -> int | None:
    try:
        return grp.getgrnam(name).gr_gid if name else None
    except KeyError as exc:
        raise Misconfigured(f"operator_group: there is no group '{name}'", field="operator_group") from exc


def _responder(home: CAHome, place: Place) -> None:
    from ca.responder_role import run  # noqa: PLC0415

    run(home, place)


def _front(home: CAHome, place: Place) -> None:
    from ca.front_role import run  # noqa: PLC0415

    run(home, place)


def _status(home: CAHome, place: Place) -> None:
    from ca.status_role import run  # noqa: PLC0415

    run(home, place)


_ROLES: Final[dict[str, Callable[[CAHome, Place], None]]] = {
    "keyholder": _keyholder,
    "recorder": _recorder,
    "responder": _responder,
    "admin": _admin,
    "front": _front,
    "status": _status,
}


@click.command()
@click.argument("role", type=click.Choice(list(_ROLES)))
@click.option("--home", "home_path", type=click.Path(path_type=Path), required=True)
def main(role: str, home_path: Path) -> None:
    """Be one role until the supervisor says stop."""
    log.configure(f"ca-{role}")
    home = CAHome(ServiceHome(home_path))
    _ROLES[role](home, _place(home, home.config(), told_by_supervisor()))


if __name__ == "__main__":
    main()
