"""Shipped data is found in a checkout and in a wheel's layout, and a stranger's folder in site-packages is
not taken for it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from ostiary import shipped
from ostiary.errors import Misconfigured


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory above the package, as site-packages or a checkout would be."""
    monkeypatch.setattr(shipped, "_PACKAGE", tmp_path / "ostiary")
    (tmp_path / "modules").mkdir()
    return tmp_path


def test_in_a_checkout_beside_the_package(site: Path) -> None:
    (site / "pyproject.toml").touch()
    assert shipped.module_library() == site / "modules"


def test_in_a_wheel_inside_the_package(site: Path) -> None:
    inside = site / "ostiary" / "_shipped" / "modules"
    inside.mkdir(parents=True)
    assert shipped.module_library() == inside


def test_a_folder_in_site_packages_is_not_ours(site: Path) -> None:
    with pytest.raises(Misconfigured, match="'modules' is missing from this installation"):
        shipped.module_library()


def test_example_clients_are_found_the_same_way(site: Path) -> None:
    (site / "pyproject.toml").touch()
    (site / "clients").mkdir()
    assert shipped.shipped_directory("clients") == site / "clients"


def test_so_are_documents(site: Path) -> None:
    with pytest.raises(Misconfigured, match="'docs' is missing from this installation"):
        shipped.shipped_directory("docs")
    inside = site / "ostiary" / "_shipped" / "docs"
    inside.mkdir(parents=True)
    assert shipped.shipped_directory("docs") == inside
