"""The tables of a ledger, the same in every service's store.

ledger_head         one row: how many entries there are, and the newest signed note
ledger_entries      seq -> canonical entry, its leaf hash, the salt of its digests (NULL once redacted)
ledger_tiles        hash tiles (C2SP tlog-tiles), full ones and the partial ones above level 0
ledger_index        who and what an entry is about, for questions: digests of terms (ledger_terms.py); can be
                    rebuilt from the entries

How they came to be is in ostiary/store/ledger_migration.py; a test compares the two.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import BigInteger, Column, Integer, LargeBinary, MetaData, Table


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerTables:
    """The tables as SQLAlchemy knows them."""

    head: Table
    entries: Table
    tiles: Table
    index: Table


def define_ledger_tables(metadata: MetaData) -> LedgerTables:
    """Add the ledger's tables to a service's metadata."""
    # SQLite makes a rowid alias only of INTEGER PRIMARY KEY.
    big = BigInteger().with_variant(Integer(), "sqlite")
    head = Table(
        "ledger_head",
        metadata,
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("size", big, nullable=False),
        Column("note", LargeBinary, nullable=False),
    )
    entries = Table(
        "ledger_entries",
        metadata,
        Column("seq", big, primary_key=True, autoincrement=False),
        Column("leaf_hash", LargeBinary(32), nullable=False),
        Column("entry", LargeBinary, nullable=False),
        Column("salt", LargeBinary, nullable=True),
    )
    tiles = Table(
        "ledger_tiles",
        metadata,
        Column("level", Integer, primary_key=True, autoincrement=False),
        Column("tile", big, primary_key=True, autoincrement=False),
        Column("hashes", LargeBinary, nullable=False),
    )
    index = Table(
        "ledger_index",
        metadata,
        Column("term", big, primary_key=True, autoincrement=False),
        Column("seq", big, primary_key=True, autoincrement=False),
        # The key is the whole row: with a rowid SQLite would keep each term twice, in the table and its
        # index.
        sqlite_with_rowid=False,
    )
    return LedgerTables(head=head, entries=entries, tiles=tiles, index=index)
