"""Bringing a store up to date: from nothing, again, and never from a newer release."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, inspect, text

from ostiary.errors import Misconfigured
from ostiary.store.database import open_for_writing, sqlite_url
from ostiary.store.migrate import upgrade

SERVICES = ["ca.store.migrations", "credsvc.store.migrations"]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = open_for_writing(sqlite_url(tmp_path / "store"))
    yield engine
    engine.dispose()


@pytest.mark.parametrize("migrations", SERVICES)
def test_an_empty_store_gets_every_table_and_a_second_time_changes_nothing(
    engine: Engine, migrations: str
) -> None:
    upgrade(engine, migrations=migrations)
    with engine.begin() as tx:
        made = set(inspect(tx).get_table_names())
        tx.execute(text("INSERT INTO ledger_head (id, size, note) VALUES (1, 7, x'')"))
    assert {"ledger_head", "ledger_entries", "ledger_tiles", "ledger_index"} <= made
    upgrade(engine, migrations=migrations)
    with engine.begin() as tx:
        assert set(inspect(tx).get_table_names()) == made
        assert tx.execute(text("SELECT size FROM ledger_head")).scalar_one() == 7


@pytest.mark.parametrize("migrations", SERVICES)
def test_a_store_of_a_newer_release_is_refused_and_left_alone(engine: Engine, migrations: str) -> None:
    upgrade(engine, migrations=migrations)
    with engine.begin() as tx:
        tx.execute(text("UPDATE alembic_version SET version_num = 'from_the_future'"))
    with pytest.raises(Misconfigured, match="newer release"):
        upgrade(engine, migrations=migrations)
    with engine.begin() as tx:
        version = tx.execute(text("SELECT version_num FROM alembic_version")).scalar_one()
    assert version == "from_the_future"
