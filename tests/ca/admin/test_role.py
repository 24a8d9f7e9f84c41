"""The admin process serves the operators' group, and says which one is missing."""

from __future__ import annotations

import grp
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ca.admin import role as module
from ca.config import write_config
from ca.home import CAHome
from ca.init import InitPlan, init_ca
from ostiary.edge.users import RoleUsers
from ostiary.errors import Misconfigured
from tests.support.ca_settings import RIGHT


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[int | None]:
    """The groups that `run` would have served; nothing listens."""
    groups: list[int | None] = []

    def run_admin(_place: object, _make_verbs: Any, group: int | None) -> None:
        groups.append(group)

    home = CAHome.at(tmp_path / "ca")
    init_ca(home, InitPlan(settings=RIGHT, ask=None, recovery=None), users=RoleUsers(base=None))
    monkeypatch.setattr(module, "run_admin", run_admin)
    return groups


def name_group(tmp_path: Path, name: str) -> None:
    CAHome.at(tmp_path / "ca").places.config.write_bytes(
        write_config(msgspec.structs.replace(RIGHT, operator_group=name))
    )


def test_without_a_group_there_is_none(served: list[int | None], tmp_path: Path) -> None:
    module.run(tmp_path / "ca")
    assert served == [None]


def test_a_group_is_served_by_its_number(served: list[int | None], tmp_path: Path) -> None:
    name_group(tmp_path, grp.getgrgid(os.getgid()).gr_name)
    module.run(tmp_path / "ca")
    assert served == [os.getgid()]


def test_a_group_that_is_missing_is_named(served: list[int | None], tmp_path: Path) -> None:
    name_group(tmp_path, "no-such-group")
    with pytest.raises(Misconfigured, match="no-such-group") as refused:
        module.run(tmp_path / "ca")
    assert refused.value.field == "operator_group"
    assert not served
