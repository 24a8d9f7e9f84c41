"""`ostiary demo` without its extra says so before it starts; integration/test_demo.py plays the rest."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import pytest

from ostiary.cli import root as command_line


@pytest.fixture
def without_moto(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the demonstration would make its directory."""
    monkeypatch.setitem(sys.modules, "moto", None)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_missing_extra_is_named_and_nothing_is_made(
    without_moto: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert command_line.run(["demo"]) == 1
    said = capfd.readouterr()
    assert said.out == ""
    assert "needs the extra 'demo'" in said.err
    assert "pip install 'ostiary[demo]'" in said.err
    assert list(without_moto.iterdir()) == []


def test_for_machines_it_is_a_problem_document(without_moto: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert command_line.run(["--json", "demo"]) == 1
    said = capfd.readouterr()
    problem = json.loads(said.err)
    assert (said.out, problem["type"]) == ("", "urn:ostiary:problem:misconfigured")
    assert "pip install 'ostiary[demo]'" in problem["detail"]
