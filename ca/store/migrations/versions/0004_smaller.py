"""The ledger's index keeps digests of its terms."""

from __future__ import annotations

from ostiary.store.ledger_migration import digest_ledger_index_3

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Make the index anew from the terms that it has."""
    digest_ledger_index_3()
