"""A service's home as its roles open it: the store of the settings, the users that the supervisor chose."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from credsvc.config import print_config
from credsvc.home import load_place, place_of
from ostiary.edge.home import ServiceHome
from ostiary.edge.users import RoleName, RoleUsers
from ostiary.errors import Misconfigured
from ostiary.roles import export_role_users
from tests.credsvc.test_config import CONFIG

SHARED = RoleUsers(base=None)


def test_without_a_database_url_the_store_is_the_embedded_one(tmp_path: Path) -> None:
    home = ServiceHome(tmp_path)
    assert str(home.database) in place_of(CONFIG, home, SHARED).database_url


def test_a_database_url_is_taken_as_it_is(tmp_path: Path) -> None:
    url = "postgresql+psycopg://ostiary@db.example/credentials"
    config = msgspec.structs.replace(CONFIG, database_url=url)
    assert place_of(config, ServiceHome(tmp_path), SHARED).database_url == url


def test_a_role_has_the_users_that_its_supervisor_chose(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = ServiceHome(tmp_path)
    home.config.write_bytes(print_config(CONFIG))
    monkeypatch.setattr("os.environ", {})
    users = RoleUsers(base=61220)
    export_role_users(users)
    config, place = load_place(tmp_path)
    assert config == CONFIG
    assert place.users == users
    assert place.users.uid(RoleName.FRONT) != place.users.uid(RoleName.RECORDER)


def test_a_home_without_settings_is_the_operators_to_mend(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured):
        load_place(tmp_path)
