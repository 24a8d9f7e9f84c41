"""Opening a service's store: SQLite by default, PostgreSQL where the URL says so.

Rules:
- SQLite: WAL, synchronous=FULL (a commit is on the disk), one writer (the recorder); readers open it and its
  shared memory read only and never block it.
- PostgreSQL: any number of recorders; the tree's head is one row that each transaction takes FOR UPDATE
  first.
- An error never quotes a statement's parameters.
- What differs between the two is in this file and in `LedgerStore.lock`.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import QueuePool

from ostiary.errors import Busy

# Keys are random, so each act dirties pages all over the indexes. Copying them back costs two more syncs and
# each page once however often it was written: every 4,000 pages (16 MiB) instead of SQLite's 1,000.
_CHECKPOINT_PAGES = 4000
_WRITER_CACHE_KIB = 64 * 1024

# A reader that may not write the -shm file can't wait for its header: where it sees it half written, or no
# read mark that is old enough, SQLite says "read only" and not "busy" (walIndexReadHdr, walTryBeginRead). It
# is whole again within microseconds, or after the recorder was killed in the middle of it, once that is back.
_UNSETTLED = frozenset({sqlite3.SQLITE_READONLY_RECOVERY, sqlite3.SQLITE_READONLY_CANTINIT})
_PAUSES_S = (0.0, 0.0005, 0.001, 0.002, 0.004, 0.008, 0.016)
_LOOK = "SELECT 1 FROM sqlite_master LIMIT 1"

_log = logging.getLogger("ostiary.store")


def sqlite_url(path: Path) -> str:
    """The URL of an embedded store."""
    return f"sqlite:///{path}"


def open_for_writing(url: str) -> Engine:
    """The recorder's engine: one connection."""
    engine = create_engine(url, poolclass=QueuePool, pool_size=1, max_overflow=0, hide_parameters=True)
    if engine.dialect.name == "sqlite":
        _prepare_sqlite(engine, read_only=False)
    return engine


def open_for_reading(url: str, *, connections: int = 8) -> Engine:
    """An engine that cannot write, for fronts, responders and audits; safe to make after a fork only."""
    if not url.startswith("sqlite:"):
        options = {"options": "-c default_transaction_read_only=on"}
        return create_engine(url, pool_size=connections, connect_args=options, hide_parameters=True)
    path = url.removeprefix("sqlite:///")
    engine = create_engine(
        f"sqlite:///file:{path}?mode=ro&readonly_shm=1&uri=true",
        poolclass=QueuePool,
        pool_size=connections,
        connect_args={"check_same_thread": False},
        hide_parameters=True,
    )
    _prepare_sqlite(engine, read_only=True)
    return engine


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A read transaction: one committed state, whatever is written meanwhile. Busy where the store can't be
    read now.
    """
    try:
        with engine.begin() as tx:
            yield tx
    except (SQLAlchemyError, sqlite3.Error) as exc:
        cause = getattr(exc, "orig", exc)
        error = getattr(cause, "sqlite_errorname", None) or type(cause or exc).__name__
        _log.warning("store-not-read", extra={"error": error})
        raise Busy("the store can't be read now") from exc


def _prepare_sqlite(engine: Engine, *, read_only: bool) -> None:
    @event.listens_for(engine, "connect")
    def _connect(connection: sqlite3.Connection, _record: Any) -> None:
        # BEGIN is ours (below): the driver's own would come only before the first write, after the rows were
        # read.
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute("PRAGMA busy_timeout=5000")
        cursor.execute("PRAGMA foreign_keys=ON")
        if read_only:
            cursor.execute("PRAGMA query_only=ON")
        else:
            cursor.execute("PRAGMA journal_mode=WAL")
            cursor.execute("PRAGMA synchronous=FULL")
            cursor.execute(f"PRAGMA wal_autocheckpoint={_CHECKPOINT_PAGES}")
            cursor.execute(f"PRAGMA cache_size=-{_WRITER_CACHE_KIB}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        if read_only:
            _begin_reading(connection)
        else:
            connection.exec_driver_sql("BEGIN IMMEDIATE")


def _begin_reading(connection: Connection) -> None:
    """Begin, and look at the store at once: here it can be tried again, once rows were read it can't."""
    driver: Any = connection.connection.driver_connection
    driver.execute("BEGIN")
    for pause_s in _PAUSES_S:
        try:
            driver.execute(_LOOK)
        except sqlite3.OperationalError as exc:
            if exc.sqlite_errorcode not in _UNSETTLED:
                raise
            time.sleep(pause_s)
        else:
            return
    driver.execute(_LOOK)
