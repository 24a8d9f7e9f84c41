"""A copy of this checkout's files, as a fresh clone would have them with what is not committed yet."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.support.repository import ROOT


def copy_checkout(target: Path) -> None:
    """Copy what git tracks or would track, without the tests, with its modes."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    for name in listed:
        source = ROOT / name
        if source.is_file() and not name.startswith("tests/"):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target / name)
