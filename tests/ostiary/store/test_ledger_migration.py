"""The ledger's tables from one release to the next: what was written stays, and what is made is what the code
believes.
"""

from __future__ import annotations

from pathlib import Path

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import MetaData, insert, select, text

from ostiary.store.database import open_for_writing, sqlite_url
from ostiary.store.ledger_migration import create_ledger_tables_1, slim_ledger_index_2
from ostiary.store.ledger_tables import define_ledger_tables

METADATA = MetaData()
LEDGER = define_ledger_tables(METADATA)
TERMS = [("agent:a", 0), ("agent:a", 2), ("serial:1f", 1)]


def test_the_index_becomes_one_tree_and_keeps_every_term(tmp_path: Path) -> None:
    engine = open_for_writing(sqlite_url(tmp_path / "store"))
    with engine.begin() as tx:
        context = MigrationContext.configure(tx)
        with Operations.context(context):
            create_ledger_tables_1()
            tx.execute(insert(LEDGER.index), [{"term": term, "seq": seq} for term, seq in reversed(TERMS)])
            slim_ledger_index_2()
        assert compare_metadata(context, METADATA) == []
        assert [tuple(row) for row in tx.execute(select(LEDGER.index))] == TERMS
        trees = tx.execute(text("SELECT name FROM sqlite_master WHERE tbl_name LIKE 'ledger_index%'"))
        assert list(trees.scalars()) == ["ledger_index"]
        (made,) = tx.execute(text("SELECT sql FROM sqlite_master WHERE name = 'ledger_index'")).scalars()
        assert "WITHOUT ROWID" in made
    engine.dispose()
