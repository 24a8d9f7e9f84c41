"""Where the data is that comes with Ostiary: credential modules, deployment files, programs that show how to
be a client.

Rules:
- In a checkout they stand beside the packages (`modules/`, `deploy/`, `clients/`); in a wheel inside this one
  (`_shipped/`, see setup.py).
- This is the only place that knows; nobody else builds a path from `__file__` to find them.
- What is here is only *proposed*: a credential module is used after its approval, wherever its files come
  from.
- pip may add `__pycache__` to the installed folders: read files by name, never everything that is there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

from ostiary.errors import Misconfigured

_PACKAGE: Final = Path(__file__).resolve().parent


def shipped_directory(name: Literal["modules", "deploy", "clients"]) -> Path:
    """The directory of that data; Misconfigured when this installation lacks it."""
    candidates = [_PACKAGE / "_shipped" / name]
    # Beside an installed package stands site-packages, where a folder of that name would be a stranger's.
    if (_PACKAGE.parent / "pyproject.toml").is_file():
        candidates.append(_PACKAGE.parent / name)
    for path in candidates:
        if path.is_dir():
            return path
    raise Misconfigured(
        f"{name!r} is missing from this installation of ostiary; install it again (looked in {candidates[0]})"
    )


def module_library() -> Path:
    """The directory with one folder for each credential module that comes with Ostiary."""
    return shipped_directory("modules")


def demo_program(name: Literal["agent", "node_controller"]) -> Path:
    """A program of the demonstration: an agent like anybody's, which uses the public client libraries."""
    return shipped_directory("clients") / "demo" / f"{name}.py"
