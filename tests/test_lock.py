"""The lock file fixes which bytes are installed, never where they come from; the set-up installs nothing
else.
"""

from __future__ import annotations

import re
import tomllib

import pytest

from tests.support.repository import ROOT

LOCK = (ROOT / "requirements.lock").read_text("utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
LOCKED = dict(re.findall(r"^([a-z0-9][a-z0-9.-]*)==([^ ;]+)", LOCK, re.MULTILINE))


def _name(requirement: str) -> str:
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found is not None
    return re.sub(r"[-_.]+", "-", found.group()).lower()


def test_every_requirement_has_a_hash() -> None:
    blocks = re.split(r"^(?=[a-z0-9])", LOCK, flags=re.MULTILINE)
    named = [block for block in blocks if "==" in block]
    assert len(named) >= len(LOCKED) > 50  # a package may be there twice, for different Pythons
    assert all("--hash=sha256:" in block for block in named)


def test_it_names_no_index_host_or_path() -> None:
    for line in LOCK.splitlines():
        assert "://" not in line
        assert not line.startswith(("-", "/", ".")), line
        assert "@" not in line.partition("#")[0], line


@pytest.mark.parametrize("group", ["dependencies", *PROJECT["optional-dependencies"]])
def test_everything_asked_for_is_locked(group: str) -> None:
    asked = PROJECT["dependencies"] if group == "dependencies" else PROJECT["optional-dependencies"][group]
    assert {_name(requirement) for requirement in asked} <= set(LOCKED)


@pytest.mark.parametrize("name", ["RestrictedPython", "cedarpy"])
def test_security_boundaries_are_pinned_exactly(name: str) -> None:
    assert f"{name}=={LOCKED[name.lower()]}" in PROJECT["dependencies"]


def test_nothing_but_built_distributions_with_these_hashes_is_installed() -> None:
    setup = (ROOT / "scripts" / "setup").read_text("utf-8")
    installs = [line for line in setup.splitlines() if line.startswith('"${pip[@]}" install')]
    assert len(installs) == 2
    assert "--require-hashes --only-binary :all:" in installs[0]
    assert "--no-deps --no-build-isolation" in installs[1]


def test_the_resolver_that_writes_the_lock_is_locked() -> None:
    tool = (ROOT / "scripts" / "lock-tool.txt").read_text("utf-8")
    assert re.match(r"uv==[0-9.]+ \\\n    --hash=sha256:", tool)
    assert "://" not in tool
