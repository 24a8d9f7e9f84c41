"""The ledger's index in one tree."""

from __future__ import annotations

from ostiary.store.ledger_migration import slim_ledger_index_2

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Keep every term, drop what no question uses."""
    slim_ledger_index_2()
