"""The demonstration as a newcomer runs it: the command, its exit code, its transcript, and no remains."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ostiary.demo.scenario import STEPS
from tests.support.waiting import PATIENCE_S


def test_the_demonstration_is_true_and_leaves_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ostiary.cli", "demo"],
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(tmp_path), "TMPDIR": "/tmp"},
        capture_output=True,
        text=True,
        timeout=5 * PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for title, _ in STEPS:
        assert title in done.stdout
    assert "all true" in done.stdout
    assert "✗" not in done.stdout
    assert "kept:" not in done.stderr


def test_a_check_that_is_not_true_ends_the_story() -> None:
    from rich.console import Console

    from ostiary.demo.transcript import CheckFailed, Transcript

    transcript = Transcript(Console(quiet=True))
    transcript.check(True, "one is one")
    with pytest.raises(CheckFailed, match="one is two"):
        transcript.check(False, "one is two")
    assert transcript.checks == 1
