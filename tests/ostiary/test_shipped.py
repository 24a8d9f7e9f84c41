"""Shipped data is found in a checkout and in a wheel's layout, and a stranger's folder in site-packages is not taken for it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import ostiary

PROBE = "from ostiary.shipped import module_library; print(module_library())"


def _install(site: Path) -> None:
    package = Path(ostiary.__file__).parent
    (site / "ostiary").mkdir(parents=True)
    for name in ("__init__.py", "errors.py", "shipped.py"):
        shutil.copy(package / name, site / "ostiary")


def _probe(site: Path) -> subprocess.CompletedProcess[str]:
    code = f"import sys; sys.path.insert(0, {str(site)!r}); {PROBE}"
    return subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=False
    )


def test_in_a_checkout_beside_the_package(tmp_path: Path) -> None:
    _install(tmp_path)
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "modules").mkdir()
    assert _probe(tmp_path).stdout.strip() == str(tmp_path / "modules")


def test_in_a_wheel_inside_the_package(tmp_path: Path) -> None:
    _install(tmp_path)
    inside = tmp_path / "ostiary" / "_shipped" / "modules"
    inside.mkdir(parents=True)
    (tmp_path / "modules").mkdir()
    assert _probe(tmp_path).stdout.strip() == str(inside)


def test_a_folder_in_site_packages_is_not_ours(tmp_path: Path) -> None:
    _install(tmp_path)
    (tmp_path / "modules").mkdir()
    assert "Misconfigured: 'modules' is missing from this installation" in _probe(tmp_path).stderr
