"""Opening a store: what an engine may do, and what its errors say."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from ostiary.errors import Busy
from ostiary.recorder.database import open_for_reading, open_for_writing, reading, sqlite_url

MARKED = "hunter2-marked"


def test_a_reader_cannot_write_and_its_errors_quote_no_value(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path / "store")
    writer = open_for_writing(url)
    with writer.begin() as tx:
        tx.execute(text("CREATE TABLE t (v TEXT)"))
    for engine in (open_for_reading(url), writer):
        with pytest.raises(DBAPIError) as refused, engine.begin() as tx:
            tx.execute(text("INSERT INTO t (v, w) VALUES (:v, 1)"), {"v": MARKED})
        assert MARKED not in str(refused.value)
    with pytest.raises(DBAPIError, match="readonly"), open_for_reading(url).begin() as tx:
        tx.execute(text("INSERT INTO t (v) VALUES (:v)"), {"v": MARKED})


def test_a_store_that_cannot_be_read_is_busy(tmp_path: Path) -> None:
    with pytest.raises(Busy), reading(open_for_reading(sqlite_url(tmp_path / "none"))):
        pass
