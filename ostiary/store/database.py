"""Opening a service's store: SQLite by default, PostgreSQL where the URL says so.

Rules:
- SQLite: WAL, synchronous=FULL (a commit is on the disk), one writer (the recorder). Readers open the file
  and its shared memory read only, and never block the writer.
- PostgreSQL: any number of recorders; the tree's head is one row, which each transaction locks first (FOR
  UPDATE).
- An error never quotes a statement's parameters.
- What differs between the two is in this file and in ostiary/recorder/ledger_store.py.
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

# Keys are random, so each act dirties pages all over the indexes. A checkpoint of the log (WAL) costs two
# more syncs and writes each page once, however often it changed: so every 4,000 pages (16 MiB), not SQLite's
# 1,000.
_CHECKPOINT_PAGES = 4000
# The inner pages of all indexes at a million certificates are about 4 MiB. Leaves are touched at random, so
# no cache of a bearable size has them, and the kernel keeps the file anyway: 2, 8 and 64 MiB take the same
# CPU (docs/performance.md).
_WRITER_CACHE_KIB = 8 * 1024

# A reader that may not write the -shm file can't lock its header to wait for it. Where it finds the header
# half written, or no read mark that is old enough, SQLite says "read only" and not "busy" (wal.c:
# walIndexReadHdr, walTryBeginRead). The header is whole again within microseconds; or, where the recorder was
# killed in the middle of writing it, once the recorder is back.
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
    """An engine that cannot write, for fronts, responders and audits; make it after the fork."""
    if not url.startswith("sqlite:"):
        options = {"options": "-c default_transaction_read_only=on"}
        return create_engine(url, pool_size=connections, connect_args=options, hide_parameters=True)
    path = url.removeprefix("sqlite:///")
    engine = create_engine(
        # readonly_shm: without it SQLite wants to write the -shm file, which belongs to the recorder's user.
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
    """A read transaction: one committed state, whatever is written meanwhile. Raises Busy where the store
    can't be read now.
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
        # BEGIN is ours (below). The driver's own would come before the first write only, after the rows that
        # the write depends on were read.
        connection.isolation_level = None
        cursor = connection.cursor()
        # The recorder is the only writer, so only a backup or a migration ever makes anyone wait.
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
            # IMMEDIATE: the write lock before the first read. A deferred transaction that wants to write
            # later fails with SQLITE_BUSY at once where another wrote meanwhile, whatever the timeout.
            connection.exec_driver_sql("BEGIN IMMEDIATE")


def _begin_reading(connection: Connection) -> None:
    """Begin, and look at the store at once: here a failure can be tried again, after rows were read it
    cannot.
    """
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
