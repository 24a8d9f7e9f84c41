"""Extras of the installation (`pip install 'ostiary[demo]'`), and the error that names one that is missing.

Whoever needs an extra asks here before anything is started or written. Nothing is imported to find out.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Final, Literal

from ostiary.errors import Misconfigured

Extra = Literal["demo", "postgresql"]

# What of each extra is imported, and what of it must be there for that (`moto[server]` is moto with flask).
# pyproject.toml names the distributions; a test compares.
MODULES: Final[Mapping[Extra, tuple[str, ...]]] = {
    "demo": ("boto3", "moto", "flask", "flask_cors"),
    "postgresql": ("psycopg",),
}


def require_extra(extra: Extra, *, what: str) -> None:
    """Raise Misconfigured where this installation lacks a part of that extra; `what` is who needs it."""
    missing = [module for module in MODULES[extra] if find_spec(module) is None]
    if missing:
        raise Misconfigured(
            f"{what} needs the extra '{extra}' (not installed: {', '.join(missing)});"
            f" install it: pip install 'ostiary[{extra}]'"
        )
