"""The store's migrations (Alembic), shipped with the package."""
