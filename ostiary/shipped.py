"""Locates the data that comes with Ostiary: credential modules, example clients, documents.

Rules:
- In a checkout the data lies beside the packages (`modules/`, `clients/`, `docs/`), in a wheel
  inside this package (`_shipped/`, see setup.py).
- No other module builds a path from `__file__` to find it.
- A shipped credential module is only *proposed*, like any other: it runs after its approval.
- pip may add `__pycache__` to the installed folders: read files by name, never everything that is there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

from ostiary.errors import Misconfigured

_PACKAGE: Final = Path(__file__).resolve().parent


def shipped_directory(name: Literal["modules", "clients", "docs"]) -> Path:
    """Return the directory of that data; Misconfigured when this installation lacks it."""
    candidates = [_PACKAGE / "_shipped" / name]
    # The folder beside an installed package is site-packages, where `modules/` would belong to a stranger.
    if (_PACKAGE.parent / "pyproject.toml").is_file():
        candidates.append(_PACKAGE.parent / name)
    for path in candidates:
        if path.is_dir():
            return path
    raise Misconfigured(
        f"{name!r} is missing from this installation of ostiary; reinstall it (looked in {candidates[0]})"
    )


def module_library() -> Path:
    """Return the directory that has one folder for each credential module of Ostiary."""
    return shipped_directory("modules")


def demo_program(name: Literal["agent", "node_controller"]) -> Path:
    """Return the path of a program of the demonstration, which uses the public client libraries only."""
    return shipped_directory("clients") / "demo" / f"{name}.py"
