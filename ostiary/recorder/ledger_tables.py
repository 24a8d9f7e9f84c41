"""The tables of a ledger, the same in every service's store.

ledger_head         one row: how many entries there are, and the newest signed note with the peaks of its tree
ledger_entries      seq -> canonical entry, its leaf hash, the salt of its digests (NULL once redacted)
ledger_tiles        complete hash tiles (C2SP tlog-tiles): 256 hashes of 32 bytes
ledger_index        who and what an entry is about, for questions; rebuildable from the entries
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, MetaData, String, Table


def define_ledger_tables(metadata: MetaData) -> None:
    """Add the ledger's tables to a service's metadata."""
    # SQLite makes a rowid alias only of INTEGER PRIMARY KEY.
    big = BigInteger().with_variant(Integer(), "sqlite")
    Table(
        "ledger_head",
        metadata,
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("size", big, nullable=False),
        Column("signed_size", big, nullable=False),
        Column("note", LargeBinary, nullable=False),
        Column("peaks", LargeBinary, nullable=False),
    )
    Table(
        "ledger_entries",
        metadata,
        Column("seq", big, primary_key=True, autoincrement=False),
        Column("leaf_hash", LargeBinary(32), nullable=False),
        Column("entry", LargeBinary, nullable=False),
        Column("salt", LargeBinary, nullable=True),
    )
    Table(
        "ledger_tiles",
        metadata,
        Column("level", Integer, primary_key=True, autoincrement=False),
        Column("tile", big, primary_key=True, autoincrement=False),
        Column("hashes", LargeBinary, nullable=False),
    )
    index = Table(
        "ledger_index",
        metadata,
        Column("term", String(200), primary_key=True),
        Column("seq", big, primary_key=True, autoincrement=False),
    )
    Index("ledger_index_by_seq", index.c.seq)
