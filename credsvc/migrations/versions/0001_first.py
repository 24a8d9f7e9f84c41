"""The first form of the store: ledger, credentials, modules, policies."""

from __future__ import annotations

from alembic import op

from credsvc.tables import METADATA

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make all tables as they are defined today; the next migration freezes them here."""
    METADATA.create_all(op.get_bind())


def downgrade() -> None:
    """There is nothing before the first form."""
    METADATA.drop_all(op.get_bind())
