"""The ledger's tables as migrations make them, shared by the services' own.

Written out, not taken from `ledger_tables`: what a release made must stay what it made. A change is a new
function with a new number, which a new migration of each service calls.
"""

from __future__ import annotations

import hashlib
from typing import Any

import sqlalchemy as sa
from alembic import op

_BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def create_ledger_tables_1() -> None:
    """The ledger as the first release of each service made it."""
    op.create_table(
        "ledger_head",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("size", _BIG, nullable=False),
        sa.Column("note", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "ledger_entries",
        sa.Column("seq", _BIG, autoincrement=False, nullable=False),
        sa.Column("leaf_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("entry", sa.LargeBinary(), nullable=False),
        sa.Column("salt", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("seq"),
    )
    op.create_table(
        "ledger_tiles",
        sa.Column("level", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("tile", _BIG, autoincrement=False, nullable=False),
        sa.Column("hashes", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("level", "tile"),
    )
    op.create_table(
        "ledger_index",
        sa.Column("term", sa.String(length=200), nullable=False),
        sa.Column("seq", _BIG, autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("term", "seq"),
    )
    op.create_index("ledger_index_by_seq", "ledger_index", ["seq"])


def slim_ledger_index_2() -> None:
    """Drop the index by `seq`, as no question asks for the terms of an entry; on SQLite, keep the terms in
    one tree instead of a table and its index.
    """
    op.drop_index("ledger_index_by_seq", "ledger_index")
    if op.get_bind().dialect.name != "sqlite":
        return
    # SQLite cannot change WITHOUT ROWID on a table that exists (sqlite.org/withoutrowid.html); so: a new one.
    op.rename_table("ledger_index", "ledger_index_1")
    op.create_table(
        "ledger_index",
        sa.Column("term", sa.String(length=200), nullable=False),
        sa.Column("seq", _BIG, autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("term", "seq"),
        sqlite_with_rowid=False,
    )
    op.execute("INSERT INTO ledger_index (term, seq) SELECT term, seq FROM ledger_index_1 ORDER BY term, seq")
    op.drop_table("ledger_index_1")


def digest_ledger_index_3() -> None:
    """Keep eight bytes of each term's SHA-256 instead of the term."""
    op.rename_table("ledger_index", "ledger_index_2")
    op.create_table(
        "ledger_index",
        sa.Column("term", _BIG, autoincrement=False, nullable=False),
        sa.Column("seq", _BIG, autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("term", "seq", name=op.f("ledger_index_pkey_3")),
        sqlite_with_rowid=False,
    )
    # In the order of the tree: a row behind the last one is cheaper than one between two others. Two terms of
    # one entry may share their digest. (Without WHERE, SQLite takes ON for a join's.)
    op.execute(
        f"INSERT INTO ledger_index (term, seq) SELECT {_digest_of_term()} AS d, seq FROM ledger_index_2 "  # noqa: S608 - names of this file
        "WHERE true ORDER BY d, seq ON CONFLICT DO NOTHING"
    )
    op.drop_table("ledger_index_2")


def _digest_of_term() -> str:
    """The first eight bytes of SHA-256(term) as a signed number, in SQL."""
    if op.get_bind().dialect.name == "postgresql":
        return "('x' || encode(substr(sha256(convert_to(term, 'UTF8')), 1, 8), 'hex'))::bit(64)::bigint"
    driver: Any = op.get_bind().connection.driver_connection
    driver.create_function("term_digest_3", 1, _term_digest_3, deterministic=True)
    return "term_digest_3(term)"


def _term_digest_3(term: str) -> int:
    return int.from_bytes(hashlib.sha256(term.encode()).digest()[:8], "big", signed=True)
