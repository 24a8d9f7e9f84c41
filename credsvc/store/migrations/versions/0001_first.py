"""The first tables.

Written out, not taken from `credsvc.store.tables`: what a release made must stay what it made. A test
compares the two.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from ostiary.store.ledger_migration import create_ledger_tables_1

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make everything."""
    create_ledger_tables_1()
    _credentials()
    _modules()
    _policies()


def _credentials() -> None:
    op.create_table(
        "credentials",
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("module", sa.String(length=64), nullable=False),
        sa.Column("owner", sa.String(length=64), nullable=False),
        sa.Column("labels", sa.JSON(), nullable=False),
        sa.Column("shareable", sa.JSON(), nullable=False),
        sa.Column("ceiling", sa.JSON(), nullable=False),
        sa.Column("disabled", sa.Boolean(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=True),
        sa.Column("changed_at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )


def _modules() -> None:
    op.create_table(
        "modules",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("module_digest", sa.String(length=64), nullable=False),
        sa.Column("manifest_digest", sa.String(length=64), nullable=False),
        sa.Column("manifest", sa.LargeBinary(), nullable=False),
        sa.Column("source", sa.LargeBinary(), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("approval", sa.LargeBinary(), nullable=True),
        sa.Column("changed_at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", "module_digest", "manifest_digest"),
    )
    op.create_index("modules_by_state", "modules", ["state", "name"])


def _policies() -> None:
    op.create_table(
        "policies",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("text", sa.LargeBinary(), nullable=False),
        sa.Column("changed_at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("digest"),
    )
    op.create_table(
        "actives",
        sa.Column("what", sa.String(length=20), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("what"),
    )
