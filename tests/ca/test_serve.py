"""The supervisor's part of a CA: which roles start, in which order, and what they are told."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from ca import serve as module
from ca.home import LISTEN_VARIABLE, CAHome
from ca.init import InitPlan, init_ca
from ca.role import ROLES
from ostiary.edge.users import RoleName, RoleUsers
from ostiary.errors import BadInput
from tests.support.ca_settings import RIGHT


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, tuple[RoleName, ...]]]:
    """What `serve` would have started; nothing is."""
    told: list[tuple[str, tuple[RoleName, ...]]] = []

    def supervise(_place: object, program: str, roles: Any, **_more: object) -> None:
        told.append((program, tuple(roles)))

    home = CAHome.at(tmp_path / "ca")
    init_ca(home, InitPlan(settings=RIGHT, ask=None, recovery=None), users=RoleUsers(base=None))
    monkeypatch.setattr(module, "supervise", supervise)
    monkeypatch.setattr(module, "choose_users", lambda *_arguments: RoleUsers(base=None))
    monkeypatch.setenv(LISTEN_VARIABLE, "")
    return told


def test_every_role_is_started_after_those_that_it_needs(
    started: list[tuple[str, tuple[RoleName, ...]]], tmp_path: Path
) -> None:
    module.serve(tmp_path / "ca", None)
    ((program, roles),) = started
    assert program == "ca.role"
    assert {role.name.lower() for role in roles} == set(ROLES)
    order = {role: roles.index(role) for role in roles}
    assert order[RoleName.KEYHOLDER] < order[RoleName.RECORDER]
    assert order[RoleName.RECORDER] < min(
        order[role] for role in (RoleName.RESPONDER, RoleName.ADMIN, RoleName.FRONT)
    )


def test_the_roles_are_told_where_the_front_listens(
    started: list[tuple[str, tuple[RoleName, ...]]], tmp_path: Path
) -> None:
    module.serve(tmp_path / "ca", "[::1]:9443")
    assert os.environ[LISTEN_VARIABLE] == "[::1]:9443"
    assert started


def test_a_bad_address_is_named_before_anything_starts(
    started: list[tuple[str, tuple[RoleName, ...]]], tmp_path: Path
) -> None:
    with pytest.raises(BadInput) as refused:
        module.serve(tmp_path / "ca", "9443")
    assert refused.value.field == "listen"
    assert not started
