"""The lock file fixes which bytes are installed, never where they come from; the set-up installs nothing
else.
"""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
import tomllib

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.repository import ROOT

LOCK = (ROOT / "requirements.lock").read_text("utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
LOCKED = dict(re.findall(r"^([a-z0-9][a-z0-9.-]*)==([^ ;]+)", LOCK, re.MULTILINE))
VERSIONS = subprocess.run(
    [ROOT / "scripts" / "find-python", "--versions"], capture_output=True, text=True, check=True
).stdout.split()
OWN = f"{sys.version_info.major}.{sys.version_info.minor}"


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
    names = {canonicalize_name(Requirement(each).name) for each in asked}
    assert names - {PROJECT["name"]} <= set(LOCKED)


@pytest.mark.parametrize("version", VERSIONS)
def test_whatever_a_locked_distribution_needs_is_locked(version: str) -> None:
    """With extras and markers, for each Python.

    A release that is locked for other Pythons only is not installed in this one: `make pythons` reads it
    there.
    """
    locked = _locked_for(version)
    reached: set[str] = set()
    unread: set[str] = set()
    waiting = [(PROJECT["name"], frozenset(PROJECT["optional-dependencies"]))]
    seen = set(waiting)
    while waiting:
        name, extras = waiting.pop()
        needs = _needs(name, extras, version, locked)
        if needs is None:
            unread.add(name)
            continue
        for need in needs:
            needed = canonicalize_name(need.name)
            if needed != PROJECT["name"]:
                assert needed in locked, f"{name} needs {need} on Python {version}"
                assert need.specifier.contains(locked[needed], prereleases=True), f"{name} needs {need}"
                reached.add(needed)
            following = (needed, frozenset(need.extras))
            if following not in seen:
                seen.add(following)
                waiting.append(following)
    if version == OWN:
        assert not unread, "make setup"
        assert reached == set(locked), "locked, but nothing needs it"
    else:
        assert len(reached) > 50


def _locked_for(version: str) -> dict[str, str]:
    lines = [Requirement(line) for line in re.findall(r"^([a-z0-9][^ ]*==[^\\\n]+)", LOCK, re.MULTILINE)]
    environment = _environment(version)
    return {
        each.name: str(each.specifier).removeprefix("==")
        for each in lines
        if each.marker is None or each.marker.evaluate(environment)
    }


def _environment(version: str, extra: str = "") -> dict[str, str]:
    on = {"python_version": version, "python_full_version": f"{version}.0", "extra": extra}
    return {name: str(value) for name, value in default_environment().items()} | on


def _needs(
    name: str, extras: frozenset[str], version: str, locked: dict[str, str]
) -> list[Requirement] | None:
    """What that distribution asks for on that Python; None where its locked release is not installed here."""
    if name == PROJECT["name"]:
        groups = [PROJECT["dependencies"], *(PROJECT["optional-dependencies"][each] for each in extras)]
        return [Requirement(each) for group in groups for each in group]
    try:
        found = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return None
    if found.version != locked[name]:
        return None
    environments = [_environment(version, extra) for extra in ("", *extras)]
    needs = [Requirement(each) for each in found.requires or ()]
    return [
        need
        for need in needs
        if need.marker is None or any(need.marker.evaluate(environment) for environment in environments)
    ]


def test_the_same_pythons_are_named_everywhere() -> None:
    low, high = VERSIONS[0], VERSIONS[-1]
    after = f"{high.partition('.')[0]}.{int(high.partition('.')[2]) + 1}"
    assert PROJECT["requires-python"] == f">={low},<{after}"
    classified = [each.rpartition(" :: ")[2] for each in PROJECT["classifiers"] if "Python :: 3." in each]
    assert classified == VERSIONS
    assert OWN in VERSIONS


@pytest.mark.parametrize("name", ["RestrictedPython", "cedarpy"])
def test_security_boundaries_are_pinned_exactly(name: str) -> None:
    assert f"{name}=={LOCKED[name.lower()]}" in PROJECT["dependencies"]


def test_no_script_installs_anything_without_these_options() -> None:
    """What a set-up then does is in integration/test_setup.py."""
    scripts = [*(ROOT / "scripts").iterdir(), ROOT / "Makefile", ROOT / ".ci" / "run"]
    texts = {path.name: path.read_text("utf-8") for path in scripts if path.is_file()}
    installing = {name for name, text in texts.items() if re.search(r"pip\b.{0,20} \"?install\b", text)}
    assert installing == {"install_lock.py", "lock"}
    for name in installing:
        assert all(option in texts[name] for option in ("--no-deps", "--require-hashes", "--only-binary")), (
            name
        )


def test_the_resolver_that_writes_the_lock_is_locked() -> None:
    tool = (ROOT / "scripts" / "lock-tool.txt").read_text("utf-8")
    assert re.match(r"uv==[0-9.]+ \\\n    --hash=sha256:", tool)
    assert "://" not in tool
