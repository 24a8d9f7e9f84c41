"""The table of roles: each name leads to a module that can be one."""

from __future__ import annotations

import importlib
import inspect

import pytest

from credsvc.role import ROLES


@pytest.mark.parametrize("role", ROLES)
def test_each_role_has_a_process_that_takes_its_home(role: str) -> None:
    run = importlib.import_module(ROLES[role]).run
    assert list(inspect.signature(run).parameters) == ["home_path"]


@pytest.mark.parametrize("role", ROLES)
def test_a_role_lives_in_the_folder_of_its_name(role: str) -> None:
    assert ROLES[role] == f"credsvc.{role}.role"
