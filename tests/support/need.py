"""What a test needs from the machine, and what happens if the machine lacks it.

- A *tool* can be installed or granted (keyctl, openssl, root): without it the test is skipped with a reason
  that starts with "needs "; where CI is set, `tests/conftest.py` turns such a skip into a failure.
- We can't change a *kernel*: a test of what only newer kernels have is skipped, in CI too, with a reason that
  starts with "this kernel lacks ".
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

NEEDS = "needs "


def require_tool(name: str) -> str:
    """Return the path of a command; skip the test if it is not installed."""
    path = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if path is None:
        pytest.skip(f"{NEEDS}the command {name!r} (scripts/system-packages.txt)")
    return path


def require_file(path: Path, *, why: str) -> Path:
    """Return the path itself; skip the test if it does not exist."""
    if not path.exists():
        pytest.skip(f"{NEEDS}{path}: {why}")
    return path


def require_root() -> None:
    """Skip the test unless it runs as root."""
    if os.geteuid() != 0:
        pytest.skip(f"{NEEDS}root")


def require_kernel(ability: str, *, present: bool) -> None:
    """Skip the test unless a probe found (`present`) what is tested in this kernel."""
    if not present:
        pytest.skip(f"this kernel lacks {ability}")
