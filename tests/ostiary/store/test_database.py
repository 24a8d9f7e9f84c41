"""Opening a store: what an engine may do, and what its errors say."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from ostiary.errors import Busy
from ostiary.store import database
from ostiary.store.database import open_for_reading, open_for_writing, reading, sqlite_url
from tests.support.waiting import PATIENCE_S

MARKED = "hunter2-marked"
WRITER = """
import sys
from sqlalchemy import text
from ostiary.store.database import open_for_writing
engine = open_for_writing(sys.argv[1])
with engine.begin() as tx:
    tx.execute(text("CREATE TABLE t (v TEXT)"))
    tx.execute(text("INSERT INTO t VALUES ('kept')"))
print("written", flush=True)
sys.stdin.read()
"""


def test_a_reader_cannot_write_and_its_errors_quote_no_value(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path / "store")
    writer = open_for_writing(url)
    with writer.begin() as tx:
        tx.execute(text("CREATE TABLE t (v TEXT)"))
    reader = open_for_reading(url)
    for engine in (reader, writer):
        with pytest.raises(DBAPIError) as refused, engine.begin() as tx:
            tx.execute(text("INSERT INTO t (v, w) VALUES (:v, 1)"), {"v": MARKED})
        assert MARKED not in str(refused.value)
    with pytest.raises(DBAPIError, match="readonly"), reader.begin() as tx:
        tx.execute(text("INSERT INTO t (v) VALUES (:v)"), {"v": MARKED})
    reader.dispose()
    writer.dispose()


def test_a_store_that_cannot_be_read_is_busy(tmp_path: Path) -> None:
    with pytest.raises(Busy), reading(open_for_reading(sqlite_url(tmp_path / "none"))):
        pass


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Path]:
    """A store with one row, open in its writer: another process, because those of one process share what they
    may do to -shm.
    """
    path = tmp_path / "store"
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, sqlite_url(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert writer.stdout is not None
    assert writer.stdout.readline() == b"written\n"
    yield path
    writer.communicate()


@contextmanager
def half_written(path: Path) -> Iterator[None]:
    """The -shm file as its writer leaves it for a moment: the first copy of the index's header is ahead of
    the second (iChange).
    """
    with Path(f"{path}-shm").open("r+b", buffering=0) as shm:
        shm.seek(8)
        whole = shm.read(1)
        shm.seek(8)
        shm.write(bytes([whole[0] ^ 1]))
        try:
            yield
        finally:
            shm.seek(8)
            shm.write(whole)


def values(engine: Engine) -> list[str]:
    with reading(engine) as tx:
        return list(tx.execute(text("SELECT v FROM t")).scalars())


def test_a_reader_waits_for_a_header_that_is_being_written(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_PAUSES_S", [0.001] * int(1000 * PATIENCE_S))
    reader = open_for_reading(sqlite_url(store))
    assert values(reader) == ["kept"]
    is_torn = threading.Event()

    def tear() -> None:
        with half_written(store):
            is_torn.set()
            time.sleep(0.005)

    for _ in range(5):
        is_torn.clear()
        writing = threading.Thread(target=tear)
        writing.start()
        is_torn.wait()
        assert values(reader) == ["kept"]
        writing.join()
    reader.dispose()


def test_a_header_that_stays_half_written_is_busy_until_the_writer_comes(
    store: Path, caplog: pytest.LogCaptureFixture
) -> None:
    reader = open_for_reading(sqlite_url(store))
    with half_written(store), caplog.at_level(logging.WARNING), pytest.raises(Busy):
        values(reader)
    (record,) = caplog.records
    assert getattr(record, "error", "") == "SQLITE_READONLY_RECOVERY"
    assert values(reader) == ["kept"]
    reader.dispose()
