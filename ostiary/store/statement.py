"""The statements of every turn: written with SQLAlchemy, compiled once, executed by the driver's own cursor.

    BY_SERIAL = Statement(select(T).where(T.c.serial.in_(bindparam("serials", expanding=True))))
    rows = BY_SERIAL.fetch(tx, {"serials": ["1f", "2e"]})

Rules:
- They run on the transaction's own connection, so that there is one way to write; what is rare stays with
  `tx.execute`.
- SQLAlchemy's Core spends 10 to 25 us on one execution, SQLite itself 1 us (docs/adr/0011, step 5; numbers in
  docs/performance.md). Its part ends here with the compiled text; its types still convert the values.
- A list of keys is filled up with its last one to a power of two, so that few texts exist.
- An error of the driver becomes SQLAlchemy's `DBAPIError`, without parameters, as it does elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BindParameter, Connection, Dialect, Select
from sqlalchemy.engine.interfaces import DBAPICursor
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql import visitors
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.dml import UpdateBase
from sqlalchemy.types import TypeEngine

Values = Mapping[str, Any]
_Convert = Callable[[Any], Any]


class Statement:
    """One SELECT, INSERT or UPDATE. Owner: the thread that has the connection."""

    def __init__(self, clause: Select[Any] | UpdateBase) -> None:
        self._clause = clause
        self._lists = [
            each.key
            for each in visitors.iterate(clause)
            if isinstance(each, BindParameter) and each.expanding
        ]
        self._texts: dict[tuple[object, ...], _Text] = {}

    def fetch(self, tx: Connection, values: Values) -> list[dict[str, Any]]:
        """The rows, each by the names of its columns."""
        given = {**values, **{name: _filled(values[name]) for name in self._lists}}
        text = self._text(tx, given)
        with _cursor(tx, text.sql) as cursor:
            cursor.execute(text.sql, text.bind(given))
            found = cursor.fetchall()
        return [text.read(row) for row in found]

    def run(self, tx: Connection, values: Values) -> int:
        """Write; the number of rows that it concerned."""
        text = self._text(tx, values)
        with _cursor(tx, text.sql) as cursor:
            cursor.execute(text.sql, text.bind(values))
            return cursor.rowcount

    def run_each(self, tx: Connection, rows: Sequence[Values]) -> None:
        """Write once for each of `rows`."""
        text = self._text(tx, rows[0])
        with _cursor(tx, text.sql) as cursor:
            cursor.executemany(text.sql, [text.bind(row) for row in rows])

    def _text(self, tx: Connection, values: Values) -> _Text:
        # The length of each list is part of the text: an expanding parameter becomes that many placeholders.
        key = (tx.dialect.name, *(len(values[name]) for name in self._lists))
        text = self._texts.get(key)
        if text is None:
            text = self._texts[key] = _compile(tx, self._clause, values)
        return text


@dataclass(frozen=True, slots=True, kw_only=True)
class _Text:
    """A statement as one driver takes it."""

    sql: str
    order: Sequence[str] | None  # of positional parameters; None where the driver takes names
    constants: Values
    lists: Mapping[str, Sequence[str]]  # the parameters that a list was spread over
    to_driver: Mapping[str, _Convert]
    columns: Sequence[str]
    from_driver: Sequence[tuple[str, _Convert]]

    def bind(self, values: Values) -> Any:
        given = {**self.constants, **values}
        for name, spread in self.lists.items():
            given.update(zip(spread, given.pop(name), strict=True))
        for name, convert in self.to_driver.items():
            given[name] = convert(given[name])
        return given if self.order is None else [given[name] for name in self.order]

    def read(self, row: Sequence[Any]) -> dict[str, Any]:
        found = dict(zip(self.columns, row, strict=True))
        for name, convert in self.from_driver:
            found[name] = convert(found[name])
        return found


def _compile(tx: Connection, clause: Select[Any] | UpdateBase, values: Values) -> _Text:
    dialect = tx.dialect
    compiled = clause.compile(dialect=dialect)
    if not isinstance(compiled, SQLCompiler):
        raise AssertionError("not a statement of SQL")
    state = compiled.construct_expanded_state(values)
    writers = [
        (name, _to_driver(dialect, bind.type))
        for bind, name in compiled.bind_names.items()
        if not bind.expanding
    ]
    columns = clause.selected_columns if isinstance(clause, Select) else ()
    readers = [(str(each.key), _from_driver(dialect, each.type)) for each in columns]
    return _Text(
        sql=state.statement,
        order=state.positiontup,
        constants={name: value for name, value in compiled.params.items() if value is not None},
        lists=state.parameter_expansion,
        to_driver={**{name: convert for name, convert in writers if convert is not None}, **state.processors},
        columns=[name for name, _ in readers],
        from_driver=[(name, convert) for name, convert in readers if convert is not None],
    )


def _to_driver(dialect: Dialect, kind: TypeEngine[Any]) -> _Convert | None:
    return kind.dialect_impl(dialect).bind_processor(dialect)


def _from_driver(dialect: Dialect, kind: TypeEngine[Any]) -> _Convert | None:
    return kind.dialect_impl(dialect).result_processor(dialect, None)


@contextmanager
def _cursor(tx: Connection, sql: str) -> Iterator[DBAPICursor]:
    cursor = tx.connection.cursor()
    try:
        yield cursor
    except tx.dialect.loaded_dbapi.Error as exc:
        raise DBAPIError(sql, None, exc, hide_parameters=True) from exc
    finally:
        cursor.close()


# A doubled key changes nothing in an IN list, and lists of 1 to 256 keys need nine texts instead of 256.
def _filled(keys: list[Any]) -> list[Any]:
    wanted = 1 << (len(keys) - 1).bit_length()
    return keys + keys[-1:] * (wanted - len(keys))
