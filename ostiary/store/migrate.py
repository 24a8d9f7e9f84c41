"""Bringing a service's store up to date: Alembic, run from the service's own migrations.

Rules:
- `upgrade` is safe to repeat. It runs at `init` and before the recorder serves; nothing else makes tables.
- Migrations are packages of Python files (`ca/store/migrations`), so a wheel has them.
- A store that is newer than this release is an operator's error; it is never downgraded.
"""

from __future__ import annotations

import logging

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Engine

from ostiary.errors import Misconfigured


def upgrade(engine: Engine, *, migrations: str) -> None:
    """Bring the store to the newest revision; `migrations` is a package (`ca.store.migrations`)."""
    package, _, directory = migrations.partition(".")
    # Alembic logs each plugin that it loads; what matters comes as an error.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    config = Config()
    config.set_main_option("script_location", f"{package}:{directory.replace('.', '/')}")
    # One transaction for all revisions: SQLite and PostgreSQL both roll back changes of a schema, so a
    # migration that fails leaves the store as it was.
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError as exc:
            known = ScriptDirectory.from_config(config).get_current_head()
            raise Misconfigured(
                f"the store can't be brought to revision {known}: {exc}; was it written by a newer release?"
            ) from exc
