"""A credentials service's admin process: the operator's commands on a local socket."""

from __future__ import annotations

from pathlib import Path

from credsvc.admin.verbs import make_verbs
from credsvc.home import load_place
from ostiary.admin.role import run_admin


def run(home_path: Path) -> None:
    """Be the admin process until the supervisor stops it."""
    config, place = load_place(home_path)
    run_admin(place, lambda recorder, engine: make_verbs(config, recorder, engine), config.operators_gid)
