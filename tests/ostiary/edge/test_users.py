"""Role users: their numbers, how a supervisor passes them on, and that dropping root leaves no way back."""

from __future__ import annotations

import os

import pytest

from ostiary.edge.users import (
    BASE_VARIABLE,
    READERS_OFFSET,
    RoleName,
    RoleUsers,
    role_users_from_environment,
)
from ostiary.roles import export_role_users

BASE = 61_000
SEPARATE, SHARED = RoleUsers(base=BASE), RoleUsers(base=None)


def test_each_role_has_a_number_of_its_own() -> None:
    assert SEPARATE.separated
    numbers = [SEPARATE.uid(role) for role in RoleName]
    assert numbers == [SEPARATE.gid(role) for role in RoleName]
    assert len({*numbers, SEPARATE.readers_gid()}) == len(RoleName) + 1
    assert SEPARATE.readers_gid() == BASE + READERS_OFFSET


def test_roles_that_share_a_user_share_the_callers() -> None:
    assert not SHARED.separated
    assert {SHARED.uid(role) for role in RoleName} == {os.getuid()}
    assert {SHARED.gid(role) for role in RoleName} | {SHARED.readers_gid()} == {os.getgid()}


@pytest.mark.parametrize("given", [SEPARATE, SHARED])
def test_a_role_has_the_users_that_its_supervisor_exported(
    given: RoleUsers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(BASE_VARIABLE, "999")  # undone by monkeypatch, whatever the export writes
    export_role_users(given)
    assert role_users_from_environment() == given


def test_without_a_supervisor_all_roles_share_a_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(BASE_VARIABLE, raising=False)
    assert role_users_from_environment() == SHARED


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, object]]:
    """The system calls that change who a process is, in their order, recorded and not made."""
    made: list[tuple[str, object]] = []
    monkeypatch.setattr(os, "getuid", lambda: 0)
    monkeypatch.setattr(os, "setgroups", lambda groups: made.append(("setgroups", groups)))
    monkeypatch.setattr(os, "setresgid", lambda *ids: made.append(("setresgid", ids)))
    monkeypatch.setattr(os, "setresuid", lambda *ids: made.append(("setresuid", ids)))
    return made


def test_root_is_dropped_groups_first_and_the_user_last(calls: list[tuple[str, object]]) -> None:
    SEPARATE.become(RoleName.FRONT)
    uid = BASE + RoleName.FRONT
    assert calls == [
        ("setgroups", [BASE + READERS_OFFSET]),
        ("setresgid", (uid, uid, uid)),
        ("setresuid", (uid, uid, uid)),
    ]


@pytest.mark.parametrize("role", [RoleName.KEYHOLDER, RoleName.SANDBOX])
def test_keyholder_and_sandbox_may_not_read_the_store(
    role: RoleName, calls: list[tuple[str, object]]
) -> None:
    SEPARATE.become(role)
    assert calls[0] == ("setgroups", [])


def test_a_shared_user_stays(calls: list[tuple[str, object]]) -> None:
    SHARED.become(RoleName.FRONT)
    assert calls == []


@pytest.mark.skipif(os.getuid() != 0, reason="needs root: another user can't become a third")
def test_a_process_that_dropped_root_cannot_become_root_again() -> None:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            SEPARATE.become(RoleName.FRONT)
            ids = (*os.getresuid(), *os.getresgid())
            try:
                os.setuid(0)
            except PermissionError:
                code = 0 if set(ids) == {BASE + RoleName.FRONT} else 2
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
