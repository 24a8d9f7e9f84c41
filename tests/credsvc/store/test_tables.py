"""The tables: migrations make exactly what the code believes, and what the front asks has an index."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, inspect, text

from credsvc.home import MIGRATIONS
from credsvc.store.tables import METADATA
from ostiary.store.migrate import upgrade
from tests.support.credential_decisions import store_at


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = store_at(tmp_path)
    yield made
    made.dispose()


def test_migrations_make_what_the_metadata_says(engine: Engine) -> None:
    with engine.begin() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, METADATA) == []


def test_upgrading_again_changes_nothing(engine: Engine) -> None:
    upgrade(engine, migrations=MIGRATIONS)
    with engine.begin() as connection:
        assert set(inspect(connection).get_table_names()) == {*METADATA.tables, "alembic_version"}


@pytest.mark.parametrize(
    "query",
    [
        "SELECT 1 FROM credentials WHERE name IN ('a', 'b')",
        "SELECT 1 FROM credentials WHERE name > 'a' ORDER BY name LIMIT 9",
        "SELECT 1 FROM modules WHERE name IN ('a', 'b')",
        "SELECT 1 FROM modules WHERE state = 'active' ORDER BY name",
        "SELECT 1 FROM policies WHERE digest = 'a'",
        "SELECT 1 FROM actives WHERE what = 'policy'",
    ],
)
def test_no_question_scans_a_table(engine: Engine, query: str) -> None:
    with engine.begin() as connection:
        plan = [row.detail for row in connection.execute(text(f"EXPLAIN QUERY PLAN {query}"))]
    assert plan
    assert not [step for step in plan if step.startswith("SCAN") and "USING" not in step], plan
    assert not [step for step in plan if "TEMP B-TREE" in step], plan
