"""The ledger's tables from one release to the next: what was written stays, and what is made is what the code
believes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import Engine, MetaData, column, insert, select, table, text

from ostiary.store.database import open_for_writing, sqlite_url
from ostiary.store.ledger_migration import (
    create_ledger_tables_1,
    digest_ledger_index_3,
    slim_ledger_index_2,
)
from ostiary.store.ledger_tables import define_ledger_tables
from ostiary.store.ledger_terms import term_digest
from tests.support.postgres import postgresql

METADATA = MetaData()
LEDGER = define_ledger_tables(METADATA)
OLD_INDEX = table("ledger_index", column("term"), column("seq"))
TERMS = [("agent:a", 0), ("agent:a", 2), ("serial:1f", 1), ("module:Grüße", 2)]


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """An empty store of each kind."""
    if request.param == "sqlite":
        made = open_for_writing(sqlite_url(tmp_path / "store"))
        yield made
        made.dispose()
        return
    with postgresql() as url:
        made = open_for_writing(url)
        yield made
        made.dispose()


def test_the_index_becomes_one_tree_of_digests_and_keeps_every_term(engine: Engine) -> None:
    with engine.begin() as tx:
        context = MigrationContext.configure(tx)
        with Operations.context(context):
            create_ledger_tables_1()
            tx.execute(insert(OLD_INDEX), [{"term": term, "seq": seq} for term, seq in reversed(TERMS)])
            slim_ledger_index_2()
            digest_ledger_index_3()
        assert compare_metadata(context, METADATA) == []
        found = {tuple(row) for row in tx.execute(select(LEDGER.index))}
        assert found == {(term_digest(term), seq) for term, seq in TERMS}
        if engine.dialect.name == "sqlite":
            trees = tx.execute(text("SELECT name FROM sqlite_master WHERE tbl_name LIKE 'ledger_index%'"))
            assert list(trees.scalars()) == ["ledger_index"]
            (made,) = tx.execute(text("SELECT sql FROM sqlite_master WHERE name = 'ledger_index'")).scalars()
            assert "WITHOUT ROWID" in made
