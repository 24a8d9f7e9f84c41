"""The tables: migrations make exactly what the code believes, and every question has an index."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, inspect, text

from ca.store.tables import METADATA
from ostiary.errors import Misconfigured
from ostiary.store.database import open_for_writing, sqlite_url
from ostiary.store.migrate import upgrade


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = open_for_writing(sqlite_url(tmp_path / "store.sqlite"))
    upgrade(made, migrations="ca.store.migrations")
    yield made
    made.dispose()


def test_migrations_make_what_the_metadata_says(engine: Engine) -> None:
    with engine.begin() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, METADATA) == []


def test_upgrading_again_changes_nothing(engine: Engine) -> None:
    upgrade(engine, migrations="ca.store.migrations")
    with engine.begin() as connection:
        assert set(inspect(connection).get_table_names()) == {*METADATA.tables, "alembic_version"}


def test_a_store_of_a_newer_release_is_refused(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(Misconfigured, match="newer release"):
        upgrade(engine, migrations="ca.store.migrations")


@pytest.mark.parametrize(
    "query",
    [
        "SELECT 1 FROM tokens WHERE token_id IN ('a', 'b')",
        "SELECT 1 FROM tokens WHERE node = 'n' AND subsystem = 's' AND status = 'open'",
        "SELECT 1 FROM certificates WHERE serial IN ('a', 'b')",
        "SELECT 1 FROM certificates WHERE (lineage IN ('a') OR serial IN ('a')) AND not_after >= 5",
        "SELECT 1 FROM tbs_templates WHERE shard = 1 AND subsystem = 's'",
        "SELECT 1 FROM certificates WHERE parent_lineage IN ('a') AND not_after >= 5",
        "SELECT 1 FROM certificates WHERE node = 'n' AND subsystem = 's' AND not_after >= 5",
        "SELECT 1 FROM certificates WHERE agent IN ('a') AND not_after >= 5",
        "SELECT 1 FROM certificates WHERE deadline IS NOT NULL AND deadline <= 5 ORDER BY deadline LIMIT 9",
        "SELECT 1 FROM certificates ORDER BY issued_at DESC LIMIT 9",
        "SELECT 1 FROM revocations WHERE n > 5 ORDER BY n LIMIT 9",
        "SELECT 1 FROM revocations WHERE serial = 'a'",
        "SELECT 1 FROM revocations WHERE shard = 3 AND n > 5 ORDER BY n",
        "SELECT 1 FROM crls WHERE refresh_at <= 5",
    ],
)
def test_no_question_scans_a_table(engine: Engine, query: str) -> None:
    with engine.begin() as connection:
        plan = [row.detail for row in connection.execute(text(f"EXPLAIN QUERY PLAN {query}"))]
    assert plan
    assert not [step for step in plan if step.startswith("SCAN") and "USING" not in step], plan
    assert not [step for step in plan if "TEMP B-TREE" in step], plan
