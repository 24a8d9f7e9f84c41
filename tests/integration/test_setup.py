"""The set-up in a fresh clone with a fresh home installs what the lock says, whatever was released since."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.checkout import copy_checkout
from tests.support.need import require_root
from tests.support.package_index import locked_here, newer, publish, served, write_wheel

_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
_LIST = (
    "import importlib.metadata as m, json; print(json.dumps({d.name: d.version for d in m.distributions()}))"
)
_HOSTILE = """\
[global]
index-url = {index}
user = true
no-binary = :all:
[install]
constraint = {constraint}
target = {target}
upgrade = true
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clone:
    """A fresh clone whose lock has the hashes of the index's wheels, and a home."""

    path: Path
    home: Path
    index: str

    @property
    def lock(self) -> str:
        return (self.path / "requirements.lock").read_text()

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """One command in the clone, with nothing of this process's environment."""
        env = {"PATH": _PATH, "HOME": str(self.home), "PIP_INDEX_URL": self.index} | environment
        return subprocess.run(
            command, cwd=self.path, env=env, capture_output=True, text=True, timeout=300, check=False
        )

    def set_up(self, **environment: str) -> str:
        """What the set-up said; it runs with the Python that runs the tests, unless told otherwise."""
        done = self.run("scripts/setup", **({"PYTHON": _own_python()} | environment))
        assert done.returncode == 0, done.stderr
        return done.stderr

    def pip(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return self.run(".venv/bin/python", "-m", "pip", *arguments, **environment)

    def installed(self, environment: str = ".venv") -> dict[str, str]:
        """Name and version of everything but pip and the checkout itself."""
        found: dict[str, str] = json.loads(self.run(f"{environment}/bin/python", "-I", "-c", _LIST).stdout)
        del found["pip"]
        del found["ostiary"]
        return {name.lower().replace("_", "-").replace(".", "-"): version for name, version in found.items()}


def _own_python() -> str:
    base: str = sys._base_executable  # type: ignore[attr-defined]
    return base


@pytest.fixture(scope="module")
def clone() -> Generator[Clone]:
    # Where others may enter, as they must be able to for the roles' users; pytest's folders are closed.
    place = Path(tempfile.mkdtemp(prefix="ostiary-setup-"))
    place.chmod(0o755)
    try:
        checkout = place / "clone"
        copy_checkout(checkout)
        (place / "home").mkdir()
        lock = publish((checkout / "requirements.lock").read_text(), place / "index")
        (checkout / "requirements.lock").write_text(lock)
        with served(place / "index") as url:
            made = Clone(path=checkout, home=place / "home", index=url)
            made.set_up()
            yield made
    finally:
        shutil.rmtree(place)


def test_a_fresh_clone_has_exactly_what_the_lock_says(clone: Clone) -> None:
    assert clone.installed() == locked_here(clone.lock)
    checked = clone.pip("check")
    assert checked.returncode == 0, checked.stdout


def test_whoever_resolves_from_this_index_gets_other_releases(clone: Clone) -> None:
    """The control: the index has moved on in a way that would be seen."""
    locked = locked_here(clone.lock)["coverage"]
    resolving = ("install", "--dry-run", "--ignore-installed")
    taken = clone.pip(*resolving, "pytest-cov")
    assert f"coverage-{newer(locked)}" in taken.stdout
    # pip 23 asks for the newest release of what an extra names, which has no hash in the lock.
    refused = clone.pip(*resolving, "--require-hashes", "--requirement", "requirements.lock")
    if "pip 23." in clone.pip("--version").stdout:
        assert refused.returncode != 0
        assert "coverage[toml]>=" in refused.stderr, refused.stderr


def test_what_a_user_added_or_replaced_is_put_right(clone: Clone) -> None:
    index = clone.path.parent / "index"
    metadata = {"METADATA": "Metadata-Version: 2.1\nName: stranger\nVersion: 1.0\n"}
    write_wheel(index, "stranger", "1.0", metadata, {})
    replaced = newer(locked_here(clone.lock)["coverage"])
    changed = clone.pip("install", "--no-deps", "stranger", f"coverage=={replaced}")
    assert changed.returncode == 0, changed.stderr
    assert clone.installed()["coverage"] == replaced
    assert "removing what the lock does not name: stranger" in clone.set_up()
    assert clone.installed() == locked_here(clone.lock)


def test_a_users_settings_say_where_packages_come_from_and_nothing_else(clone: Clone, tmp_path: Path) -> None:
    replaced = newer(locked_here(clone.lock)["coverage"])
    constraint = tmp_path / "constraint"
    constraint.write_text(f"coverage=={replaced}\n")
    settings = tmp_path / "pip.conf"
    settings.write_text(
        _HOSTILE.format(index=clone.index, constraint=constraint, target=tmp_path / "elsewhere")
    )
    assert clone.pip("uninstall", "--yes", "coverage").returncode == 0
    environment = {
        "PIP_CONFIG_FILE": str(settings),
        "PIP_INDEX_URL": clone.index,
        "PIP_CONSTRAINT": str(constraint),
        "PIP_PREFIX": str(tmp_path / "prefix"),
        "PYTHONPATH": str(tmp_path),
    }
    clone.set_up(**environment)
    assert clone.installed() == locked_here(clone.lock)
    assert {path.name for path in tmp_path.iterdir()} == {"constraint", "pip.conf"}


def test_a_python_that_others_cannot_run_is_copied_to_where_they_can(clone: Clone, tmp_path: Path) -> None:
    require_root()
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    copied = clone.run(_own_python(), "scripts/copy_python.py", str(closed / "python"))
    assert copied.returncode == 0, copied.stderr
    python = copied.stdout.strip()
    assert clone.run("scripts/others-may-run", python).returncode != 0
    said = clone.set_up(PYTHON=python, VENV=".venvs/closed")
    assert f"copying {python}" in said
    assert "note:" not in said
    assert clone.run("scripts/others-may-run", ".venvs/closed/bin/python", "ostiary.errors").returncode == 0
    assert clone.installed(".venvs/closed") == locked_here(clone.lock)


def test_a_python_that_was_not_tested_is_refused_by_name(clone: Clone) -> None:
    refused = clone.run("scripts/setup", PYTHON="/bin/sh")
    assert refused.returncode != 0
    assert "PYTHON=/bin/sh is not a CPython of version 3.11" in refused.stderr
    assert clone.installed() == locked_here(clone.lock)
