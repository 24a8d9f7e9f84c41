"""Bringing a service's store up to date: Alembic, run from the service's own migrations.

Rules:
- `upgrade` is safe to repeat. It runs at `init` and before the recorder serves; nothing else makes tables.
- Migrations are packages of Python files (`ca/store/migrations`), so a wheel has them. A revision's file is
  named for it: four digits, counted up.
- A store that is newer than this release is an operator's error; it is never downgraded.
- Alembic is loaded only where a store has another revision than the newest: it takes 9 MB and 0.2 s, and a
  recorder mostly starts on a store that it has left.
"""

from __future__ import annotations

import logging
from importlib.resources import files

from sqlalchemy import Connection, Engine, inspect, text

from ostiary.errors import Misconfigured


def upgrade(engine: Engine, *, migrations: str) -> None:
    """Bring the store to the newest revision; `migrations` is a package (`ca.store.migrations`)."""
    # One transaction for all revisions: SQLite and PostgreSQL both roll back changes of a schema, so a
    # migration that fails leaves the store as it was.
    with engine.begin() as connection:
        if _revision_of(connection) != newest_revision(migrations):
            _upgrade(connection, migrations)


def newest_revision(migrations: str) -> str:
    """The newest revision of a package of migrations, by the names of its files."""
    names = [each.name for each in (files(migrations) / "versions").iterdir()]
    return max(name[:4] for name in names if name[:4].isdecimal())


def _revision_of(connection: Connection) -> str | None:
    """The store's revision; None where it has none yet."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return found


def _upgrade(connection: Connection, migrations: str) -> None:
    # Here and not above: see the module's rules.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415
    from alembic.util import CommandError  # noqa: PLC0415

    package, _, directory = migrations.partition(".")
    # Alembic logs each plugin that it loads; what matters comes as an error.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    config = Config()
    config.set_main_option("script_location", f"{package}:{directory.replace('.', '/')}")
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as exc:
        known = ScriptDirectory.from_config(config).get_current_head()
        raise Misconfigured(
            f"the store can't be brought to revision {known}: {exc}; was it written by a newer release?"
        ) from exc
