"""A CA's admin process: the operator's commands on a local socket."""

from __future__ import annotations

import grp
from pathlib import Path

from ca.admin.verbs import make_verbs
from ca.home import CAHome
from ostiary.admin.role import run_admin
from ostiary.errors import Misconfigured


def run(home_path: Path) -> None:
    """Be the admin process until told to stop."""
    home = CAHome.at(home_path)
    # Only members of that group may connect; without one, root and the service's own user
    # (ostiary/admin/server.py).
    group = _group(home.config().operator_group)
    run_admin(home.place(), lambda recorder, engine: make_verbs(home, recorder, engine), group)


def _group(name: str | None) -> int | None:
    try:
        return None if name is None else grp.getgrnam(name).gr_gid
    except KeyError as exc:
        raise Misconfigured(f"operator_group: there is no group '{name}'", field="operator_group") from exc
