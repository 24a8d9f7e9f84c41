"""Alembic's environment: migrations run on the connection that `ostiary.store.migrate` opened, in its
transaction.
"""

from __future__ import annotations

from alembic import context

from ca.store.tables import METADATA

# The transaction is the caller's (BEGIN IMMEDIATE on SQLite), so that a start that fails half way changes
# nothing.
context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    render_as_batch=True,
    transactional_ddl=True,
)
context.run_migrations()
