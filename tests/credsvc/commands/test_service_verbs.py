"""Calls over the operator socket: to the service of --home, and clear where none runs there."""

from __future__ import annotations

from pathlib import Path

import pytest

from ostiary.cli.root import run


def test_where_no_service_runs_the_error_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--home", str(tmp_path), "credential", "list"]) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert "credsvc" in told.err
