"""The store's migrations (Alembic), shipped with the package."""

from __future__ import annotations

from pathlib import Path

from alembic.config import Config


def alembic_config(database_url: str) -> Config:
    """Alembic's configuration for a store, without a file."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.set_main_option("sqlalchemy.url", database_url.replace("%", "%%"))
    return config
