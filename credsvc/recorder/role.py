"""A credentials service's recorder: what it decides with, and the channels that it listens on."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from credsvc.home import MIGRATIONS, load_place
from credsvc.recorder.recording import CredentialRecording
from credsvc.store.tables import LEDGER
from ostiary.edge.users import RoleName
from ostiary.recorder.role import run_recorder

_ASKING: Final = {"front": RoleName.FRONT, "admin": RoleName.ADMIN}


def run(home_path: Path) -> None:
    """Be the recorder until the supervisor stops it."""
    config, place = load_place(home_path)
    run_recorder(place, CredentialRecording(config.application), LEDGER, _ASKING, migrations=MIGRATIONS)
