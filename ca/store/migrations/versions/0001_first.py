"""The first tables.

Written out, not taken from `ca.store.tables`: what a release made must stay what it made. A test compares the
two.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from ostiary.store.ledger_migration import create_ledger_tables_1

revision = "0001"
down_revision = None

_BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make everything."""
    _certificates()
    _status()
    create_ledger_tables_1()
    _tokens()


def _certificates() -> None:
    op.create_table(
        "certificates",
        sa.Column("serial", sa.String(length=40), nullable=False),
        sa.Column("lineage", sa.String(length=40), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(length=10), nullable=False),
        sa.Column("stopped", sa.Boolean(), nullable=False),
        sa.Column("bootstrap", sa.Boolean(), nullable=False),
        sa.Column("deadline", _BIG, nullable=True),
        sa.Column("subsystem", sa.String(length=64), nullable=False),
        sa.Column("node", sa.String(length=64), nullable=False),
        sa.Column("agent", sa.String(length=36), nullable=False),
        sa.Column("capabilities", sa.Text(), nullable=False),
        sa.Column("granted", sa.Text(), nullable=False),
        sa.Column("ceiling", sa.Text(), nullable=True),
        sa.Column("depth", sa.Integer(), nullable=False),
        sa.Column("parent", sa.String(length=40), nullable=False),
        sa.Column("parent_lineage", sa.String(length=40), nullable=False),
        sa.Column("token_id", sa.String(length=16), nullable=False),
        sa.Column("address", sa.String(length=64), nullable=False),
        sa.Column("endpoints", sa.Text(), nullable=False),
        sa.Column("lifetime_s", sa.Integer(), nullable=False),
        sa.Column("issued_at", _BIG, nullable=False),
        sa.Column("not_before", _BIG, nullable=False),
        sa.Column("not_after", _BIG, nullable=False),
        sa.Column("shard", sa.Integer(), nullable=False),
        sa.Column("spki_digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("activated_at", _BIG, nullable=False),
        sa.Column("activated_by", sa.String(length=16), nullable=False),
        sa.Column("revoked_at", _BIG, nullable=False),
        sa.Column("reason", sa.String(length=24), nullable=False),
        sa.Column("tbs", sa.LargeBinary(), nullable=False),
        sa.Column("signature", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("serial"),
    )
    op.create_index("certificates_by_agent", "certificates", ["agent", "not_after"])
    op.create_index(
        "certificates_by_deadline",
        "certificates",
        ["deadline"],
        sqlite_where=sa.text("deadline IS NOT NULL"),
        postgresql_where=sa.text("deadline IS NOT NULL"),
    )
    op.create_index("certificates_by_lineage", "certificates", ["lineage", "not_after"])
    op.create_index("certificates_by_node", "certificates", ["node", "subsystem", "not_after"])
    op.create_index("certificates_by_parent", "certificates", ["parent_lineage", "not_after"])
    op.create_index("certificates_by_time", "certificates", ["issued_at"])


def _status() -> None:
    op.create_table(
        "revocations",
        sa.Column("n", _BIG, autoincrement=True, nullable=False),
        sa.Column("serial", sa.String(length=40), nullable=False),
        sa.Column("shard", sa.Integer(), nullable=False),
        sa.Column("revoked_at", _BIG, nullable=False),
        sa.Column("reason", sa.String(length=24), nullable=False),
        sa.Column("not_after", _BIG, nullable=False),
        sa.Column("crl_entry", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("n"),
        sa.UniqueConstraint("serial"),
        sqlite_autoincrement=True,
    )
    op.create_index("revocations_by_shard", "revocations", ["shard", "n"])
    op.create_table(
        "shards",
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("opened_at", _BIG, nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("last_not_after", _BIG, nullable=False),
        sa.PrimaryKeyConstraint("number"),
    )
    op.create_table(
        "crls",
        sa.Column("shard", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("signed_number", sa.Integer(), nullable=False),
        sa.Column("through", _BIG, nullable=False),
        sa.Column("this_update", _BIG, nullable=False),
        sa.Column("refresh_at", _BIG, nullable=False),
        sa.Column("der", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("shard"),
    )
    op.create_index("crls_by_refresh", "crls", ["refresh_at"])


def _tokens() -> None:
    op.create_table(
        "tokens",
        sa.Column("token_id", sa.String(length=16), nullable=False),
        sa.Column("digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("subsystem", sa.String(length=64), nullable=False),
        sa.Column("node", sa.String(length=64), nullable=False),
        sa.Column("agent", sa.String(length=36), nullable=False),
        sa.Column("capabilities", sa.Text(), nullable=False),
        sa.Column("endpoints", sa.Text(), nullable=False),
        sa.Column("lifetime_s", sa.Integer(), nullable=False),
        sa.Column("expires_at", _BIG, nullable=False),
        sa.Column("address", sa.String(length=64), nullable=False),
        sa.Column("spki_digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("bootstrap", sa.Boolean(), nullable=False),
        sa.Column("created_at", _BIG, nullable=False),
        sa.Column("created_by", sa.String(length=64), nullable=False),
        sa.Column("status", sa.String(length=8), nullable=False),
        sa.Column("spent_at", _BIG, nullable=False),
        sa.Column("spent_serial", sa.String(length=40), nullable=False),
        sa.Column("contested", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("token_id"),
    )
    op.create_index("tokens_by_node", "tokens", ["node", "subsystem", "status"])
    op.create_index("tokens_by_time", "tokens", ["created_at"])
