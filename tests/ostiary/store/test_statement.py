"""Statements that the driver executes itself: they say what SQLAlchemy's own execution says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Connection,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    bindparam,
    insert,
    select,
    update,
)
from sqlalchemy.exc import DBAPIError

from ostiary.store.database import open_for_writing, sqlite_url
from ostiary.store.statement import Statement

METADATA = MetaData()
THINGS = Table(
    "things",
    METADATA,
    Column("name", String, primary_key=True),
    Column("number", Integer, nullable=False),
    Column("told", Boolean, nullable=False),
    Column("labels", JSON, nullable=False),
    Column("blob", LargeBinary, nullable=True),
)
ROWS: list[dict[str, Any]] = [
    {"name": name, "number": number, "told": number % 2 == 0, "labels": ["ä", number], "blob": blob}
    for number, (name, blob) in enumerate([("a", None), ("b", b"\x00"), ("c", b""), ("d", b"x"), ("e", b"y")])
]
INSERT = Statement(insert(THINGS))
NAMED = Statement(select(THINGS).where(THINGS.c.name.in_(bindparam("names", expanding=True))))


@pytest.fixture
def tx(tmp_path: Path) -> Iterator[Connection]:
    """A transaction in a store with the rows."""
    engine = open_for_writing(sqlite_url(tmp_path / "store"))
    with engine.begin() as begun:
        METADATA.create_all(begun)
        INSERT.run_each(begun, ROWS)
        yield begun
    engine.dispose()


def test_values_are_written_and_read_as_sqlalchemy_does_it(tx: Connection) -> None:
    own = [dict(row) for row in tx.execute(select(THINGS).order_by(THINGS.c.name)).mappings()]
    assert own == ROWS
    found = Statement(select(THINGS).order_by(THINGS.c.name)).fetch(tx, {})
    assert found == ROWS
    assert [[type(value) for value in row.values()] for row in found] == [
        [type(value) for value in row.values()] for row in ROWS
    ]


@pytest.mark.parametrize("count", range(1, 6))
def test_any_number_of_keys_finds_each_row_once(tx: Connection, count: int) -> None:
    names = [row["name"] for row in ROWS[:count]]
    assert sorted(row["name"] for row in NAMED.fetch(tx, {"names": names})) == names
    assert sorted(row["name"] for row in NAMED.fetch(tx, {"names": [*names[1:], "none"]})) == names[1:]


def test_what_the_statement_says_itself_is_kept(tx: Connection) -> None:
    at_most = Statement(
        select(THINGS.c.name).where(THINGS.c.number > bindparam("above")).order_by(THINGS.c.number).limit(2)
    )
    assert [row["name"] for row in at_most.fetch(tx, {"above": 0})] == ["b", "c"]
    assert [row["name"] for row in at_most.fetch(tx, {"above": 3})] == ["e"]


def test_an_update_says_how_many_rows_it_concerned(tx: Connection) -> None:
    change = Statement(update(THINGS).where(THINGS.c.name == bindparam("k")).values(told=bindparam("t")))
    assert change.run(tx, {"k": "a", "t": False}) == 1
    assert change.run(tx, {"k": "none", "t": False}) == 0
    assert [row["told"] for row in NAMED.fetch(tx, {"names": ["a"]})] == [False]


def test_an_error_of_the_driver_is_sqlalchemys_and_quotes_no_value(tx: Connection) -> None:
    for write in (lambda: INSERT.run_each(tx, [ROWS[3]]), lambda: INSERT.run(tx, ROWS[3])):
        with pytest.raises(DBAPIError, match="UNIQUE constraint failed") as refused:
            write()
        assert "ä" not in str(refused.value)
