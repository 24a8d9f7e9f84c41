"""Starting a service's roles: who gets a user, which command runs, and what is refused at once."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from ostiary import roles
from ostiary.edge.home import ServiceHome
from ostiary.edge.place import Place
from ostiary.edge.users import RoleName, RoleUsers
from ostiary.errors import Misconfigured
from ostiary.roles import check_initialized, choose_users, supervise
from ostiary.supervisor import Role, User

BASE = 61_000


class RecordedSupervisor:
    """Stands in for the supervisor: keeps the roles that it was to run."""

    started: Sequence[Role] = ()
    status_path = Path()

    def __init__(self, started: Sequence[Role], *, status_path: Path) -> None:
        RecordedSupervisor.started, RecordedSupervisor.status_path = started, status_path

    def run(self) -> None:
        """End at once."""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr(roles, "Supervisor", RecordedSupervisor)
    return Place(home=ServiceHome(tmp_path / "ca"), users=RoleUsers(base=None), database_url="sqlite://")


def test_each_role_is_a_process_of_the_program(place: Place) -> None:
    names = [RoleName.KEYHOLDER, RoleName.RECORDER]
    supervise(place, "ca.role", names, own_argv={}, inherited={RoleName.KEYHOLDER: (7,)})
    keyholder, recorder = RecordedSupervisor.started
    argv = [sys.executable, "-m", "ca.role", "keyholder", "--home", str(place.home.path)]
    assert list(keyholder.argv) == argv
    assert (keyholder.inherited, recorder.inherited) == ((7,), ())
    assert RecordedSupervisor.status_path == place.home.roles
    assert place.home.store.is_dir()


def test_only_the_keyholder_pays_for_wiping_freed_memory(place: Place) -> None:
    supervise(place, "ca.role", list(RoleName), own_argv={}, inherited={})
    wiping = [role.name for role in RecordedSupervisor.started if "GLIBC_TUNABLES" in role.environment]
    assert wiping == ["keyholder"]


def test_a_role_may_have_a_command_of_its_own(place: Place) -> None:
    own = ["/usr/bin/true"]
    supervise(place, "ca.role", [RoleName.SANDBOX], own_argv={RoleName.SANDBOX: own}, inherited={})
    assert [list(role.argv) for role in RecordedSupervisor.started] == [own]


def test_a_store_without_its_driver_is_refused_before_anything_is_laid_out(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)  # as if it were not installed
    remote = replace(place, database_url="postgresql://db/ca")
    with pytest.raises(Misconfigured, match=r"pip install 'ostiary\[postgresql\]'"):
        supervise(remote, "ca.role", list(RoleName), own_argv={}, inherited={})
    assert not place.home.path.exists()


def test_separate_users_are_given_to_all_but_those_who_drop_root_themselves() -> None:
    users = RoleUsers(base=BASE)
    kept = {role for role in RoleName if roles._user(users, role) is None}
    assert kept == {RoleName.KEYHOLDER, RoleName.SANDBOX}
    front = roles._user(users, RoleName.FRONT)
    assert front == User(uid=BASE + 2, gid=BASE + 2, groups=(BASE + 10,))
    assert roles._user(RoleUsers(base=None), RoleName.FRONT) is None


def test_an_ordinary_user_shares_its_own_with_all_roles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    assert not choose_users(BASE, "ca.role", tmp_path).separated


def test_root_separates_the_roles_where_others_can_enter_and_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 0)
    monkeypatch.setattr(roles, "can_run_as", lambda _user, _modules: True)
    assert choose_users(BASE, "ca.role", Path("/ostiary-ca")) == RoleUsers(base=BASE)


def test_what_others_must_be_able_to_load_is_what_the_roles_load(monkeypatch: pytest.MonkeyPatch) -> None:
    probed: list[str] = []

    def can_run_as(_user: User, modules: Sequence[str]) -> bool:
        probed.extend(modules)
        return True

    monkeypatch.setattr(os, "getuid", lambda: 0)
    monkeypatch.setattr(roles, "can_run_as", can_run_as)
    choose_users(BASE, "ca.role", Path("/ostiary-ca"))
    assert {"ca.keyholder.role", "ca.recorder.role", "ca.front.role"} <= set(probed)


def test_root_shares_its_user_where_the_home_is_closed_to_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 0)
    monkeypatch.setattr(roles, "can_run_as", lambda _user, _modules: True)
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    with caplog.at_level(logging.WARNING, logger="ostiary.roles"):
        assert not choose_users(BASE, "ca.role", closed / "home").separated
    (record,) = caplog.records
    assert "other users can't enter" in record.__dict__["reason"]


def test_root_shares_its_user_where_others_cannot_run_the_interpreter(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 0)
    monkeypatch.setattr(roles, "can_run_as", lambda _user, _modules: False)
    with caplog.at_level(logging.WARNING, logger="ostiary.roles"):
        assert not choose_users(BASE, "ca.role", Path("/ostiary-ca")).separated
    (record,) = caplog.records
    assert sys.executable in record.__dict__["reason"]


def test_a_home_without_a_configuration_is_refused_with_the_command_that_makes_one(tmp_path: Path) -> None:
    home = ServiceHome(tmp_path)
    with pytest.raises(Misconfigured, match="`ostiary ca init`"):
        check_initialized(home, "ca")
    home.config.write_text("")
    check_initialized(home, "ca")
