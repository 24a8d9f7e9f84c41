"""What the supervisor starts, in which order, and how it starts the sandbox."""

from __future__ import annotations

from pathlib import Path

import msgspec

from credsvc import serve
from credsvc.home import place_of
from credsvc.role import ROLES
from credsvc.sandbox.zygote import parse_arguments
from ostiary.edge.home import ServiceHome
from ostiary.edge.users import RoleName, RoleUsers
from tests.credsvc.test_config import CONFIG


def test_every_role_is_started_once() -> None:
    assert len(set(serve.STARTED)) == len(serve.STARTED)
    # The sandbox is a program of its own; all others are roles.
    assert {role.name.lower() for role in serve.STARTED} == {*ROLES, "sandbox"}


def test_the_zygote_starts_before_any_secret_is_unsealed_and_the_front_last() -> None:
    order = serve.STARTED.index
    assert order(RoleName.SANDBOX) < order(RoleName.KEYHOLDER) < order(RoleName.RECORDER)
    assert serve.STARTED[-1] is RoleName.FRONT


def test_the_zygote_lets_in_the_front_alone_and_drops_what_the_operator_says(tmp_path: Path) -> None:
    users = RoleUsers(base=61220)
    config = msgspec.structs.replace(CONFIG, sandbox_without=("landlock",))
    argv = serve._zygote_argv(config, place_of(config, ServiceHome(tmp_path), users))
    settings = parse_arguments(argv[argv.index("--control") :])
    assert settings.allowed_uids == {users.uid(RoleName.FRONT)}
    assert (settings.layers.landlock, settings.layers.namespaces) == (False, True)
    assert settings.control_path == str(ServiceHome(tmp_path).channel("sandbox"))
