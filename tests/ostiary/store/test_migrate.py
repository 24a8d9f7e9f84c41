"""Bringing a store up to date: from nothing, again, and never from a newer release."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, inspect, text

from ostiary.errors import Misconfigured
from ostiary.store.database import open_for_writing, sqlite_url
from ostiary.store.migrate import newest_revision, upgrade
from tests.support.repository import ROOT

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


@pytest.mark.parametrize("migrations", SERVICES)
def test_the_newest_revision_is_alembics(engine: Engine, migrations: str) -> None:
    upgrade(engine, migrations=migrations)
    with engine.begin() as tx:
        version = tx.execute(text("SELECT version_num FROM alembic_version")).scalar_one()
    package, _, directory = migrations.partition(".")
    script = ScriptDirectory(str(files(package) / directory.replace(".", "/")))
    assert newest_revision(migrations) == version == script.get_current_head()


UPGRADED = """
import sys
from pathlib import Path
from ostiary.store.database import open_for_writing, sqlite_url
from ostiary.store.migrate import upgrade
upgrade(open_for_writing(sqlite_url(Path(sys.argv[1]))), migrations=sys.argv[2])
print("alembic" in sys.modules)
"""


def test_a_store_that_is_up_to_date_needs_no_alembic(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", UPGRADED, str(tmp_path / "store"), SERVICES[0]]
    loaded = [
        subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True).stdout for _ in range(2)
    ]
    assert loaded == ["True\n", "False\n"]
