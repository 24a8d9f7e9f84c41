"""A sandbox for one command: it runs what the service would run, and leaves nothing behind."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from credsvc.sandbox.client.faults import SandboxFault, SourceRefused
from credsvc.sandbox.client.private import private_sandbox
from ostiary.errors import Misconfigured
from tests.support.sandbox_stack import CONTROL, REQUEST, children, module, wait_gone


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary directories are made: one that workers' users may pass, and with a short name."""
    made = Path(tempfile.mkdtemp(prefix="ost"))
    made.chmod(0o755)
    monkeypatch.setattr(tempfile, "tempdir", str(made))
    return made


def test_it_runs_a_module_and_refuses_what_is_not_in_the_language() -> None:
    with private_sandbox() as pool:
        assert pool.run(module(CONTROL), "sign", REQUEST, 30.0).formula == "control"
        with pytest.raises(SourceRefused, match="not-allowed at line 1"):
            pool.check_source("import os\n")


def test_nothing_is_left_behind(folder: Path) -> None:
    before = set(children(_own_pid()))
    with private_sandbox() as pool:
        pool.check_source(CONTROL)
        (zygote,) = set(children(_own_pid())) - before
        workers = children(zygote)
        assert list(folder.iterdir())
    for pid in (zygote, *workers):
        wait_gone(pid)
    assert not list(folder.iterdir())


def test_it_ends_with_the_command_that_failed(folder: Path) -> None:
    with pytest.raises(SandboxFault), private_sandbox() as pool:
        pool.run(module("def sign(request, credential, clock):\n    return 1 // 0\n"), "sign", REQUEST, 30.0)
    assert not list(folder.iterdir())


def test_one_that_does_not_start_says_where_to_look(folder: Path) -> None:
    with pytest.raises(Misconfigured, match="ostiary doctor"), private_sandbox(without=("seccomp",)):
        pass
    assert not list(folder.iterdir())


def _own_pid() -> int:
    return int(Path("/proc/self").readlink().name)
