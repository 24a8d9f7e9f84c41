"""The command that starts a zygote: what it inherits of this interpreter, and what not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from credsvc.sandbox.client.control import import_path, zygote_argv
from tests.support.repository import ROOT


def test_the_command_is_isolated_and_names_who_may_ask() -> None:
    argv = zygote_argv(Path("/run/z"), allowed_uids=[8, 7, 8], without=["landlock"])
    assert argv[:4] == [sys.executable, "-I", "-S", "-c"]
    assert argv[6:] == [
        "--control",
        "/run/z",
        "--allow-uid",
        "7",
        "--allow-uid",
        "8",
        "--without",
        "landlock",
    ]


def test_the_import_path_holds_the_packages_and_nothing_relative() -> None:
    folders = [Path(each) for each in import_path()]
    assert all(folder.is_absolute() for folder in folders)
    for package in ("credsvc", "ostiary", "RestrictedPython"):
        assert any((folder / package).is_dir() for folder in folders), package


def test_the_host_never_imports_restricted_python() -> None:
    """Nothing of a module is parsed outside of a worker: the host's side doesn't even have the means."""
    program = "import sys, credsvc.sandbox.client.pool; "
    program += "print([name for name in sys.modules if 'Restricted' in name])"
    found = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize("module", ["credsvc.sandbox.zygote"])
def test_the_zygote_holds_no_third_party_but_restricted_python(module: str) -> None:
    """What it imports is in every worker's memory and in the trusted base."""
    program = f"import sys; sys.path[:0] = {import_path()!r}; import {module}, credsvc.formula.injected; "
    program += "print('\\n'.join(sorted({name.split('.')[0] for name in sys.modules})))"
    found = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=True
    )
    third = {name for name in found.stdout.split() if name not in sys.stdlib_module_names}
    assert {name for name in third if not name.startswith("_")} == {"RestrictedPython", "credsvc"}
