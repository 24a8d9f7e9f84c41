"""A skip for a missing tool is a failure in CI; a skip because of the kernel is a skip everywhere."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.repository import ROOT

WANTING = """
from tests.support.need import require_kernel, require_tool

def test_tool() -> None:
    require_tool("no-such-command")

def test_kernel() -> None:
    require_kernel("a thing of the future", present=False)
"""
WANTING_MODULE = """
import pytest

pytest.skip("needs everything", allow_module_level=True)
"""


def _run(tmp_path: Path, source: str, *, ci: bool, processes: int) -> str:
    tests = tmp_path / "tests"
    tests.mkdir()
    shutil.copy(ROOT / "tests" / "conftest.py", tests)
    (tests / "support").mkdir()
    shutil.copy(ROOT / "tests" / "support" / "need.py", tests / "support")
    (tests / "test_wanting.py").write_text(source)
    env = {name: value for name, value in os.environ.items() if name != "CI"} | ({"CI": "true"} if ci else {})
    argv = [
        sys.executable,
        "-m",
        "pytest",
        f"-n{processes}",
        "-p",
        "no:cacheprovider",
        "-o",
        "pythonpath=.",
        "--import-mode=importlib",
        "tests",
    ]
    return subprocess.run(argv, cwd=tmp_path, env=env, capture_output=True, text=True, check=False).stdout


@pytest.mark.parametrize("processes", [0, 2])
@pytest.mark.parametrize(("ci", "outcome"), [(False, "2 skipped"), (True, "1 failed, 1 skipped")])
def test_a_missing_tool_fails_in_ci_only(tmp_path: Path, ci: bool, outcome: str, processes: int) -> None:
    output = _run(tmp_path, WANTING, ci=ci, processes=processes)
    assert outcome in output
    assert not ci or "nothing may be skipped in CI: needs the command 'no-such-command'" in output


@pytest.mark.parametrize("processes", [0, 2])
@pytest.mark.parametrize(("ci", "outcome"), [(False, "1 skipped"), (True, "error")])
def test_the_same_for_a_whole_file(tmp_path: Path, ci: bool, outcome: str, processes: int) -> None:
    assert outcome in _run(tmp_path, WANTING_MODULE, ci=ci, processes=processes)
