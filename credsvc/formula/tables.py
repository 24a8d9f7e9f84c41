"""Strict reading of TOML tables: every key is asked for once, and what nobody asked for is an error.

An error is BadInput whose `field` is the full path of the key and whose text says what was wanted there.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from credsvc.formula.pattern import SafePattern, parse_pattern
from ostiary.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

MAX_ENTRIES = 64


class Table:
    """One TOML table and the keys that are still unread."""

    def __init__(self, values: Mapping[str, object], path: str) -> None:
        self._values = dict(values)
        self._path = path

    def error(self, key: str, wanted: str) -> BadInput:
        """What was wanted at a key of this table."""
        where = f"{self._path}.{key}"
        return BadInput(f"{where}: wanted {wanted}", field=where)

    def finish(self) -> None:
        """That nothing is left unread."""
        for key in sorted(self._values):
            raise self.error(key, "no such key (it is unknown here)")

    def text(self, key: str, wanted: str) -> str:
        """One line of printable text that the regular expression `wanted` describes."""
        value = self._values.pop(key, None)
        # An approver reads it: nothing in it may steer a terminal or turn the text's direction.
        if type(value) is not str or re.fullmatch(wanted, value) is None or not value.isprintable():
            raise self.error(key, f"printable text that matches {wanted}")
        return value

    def long_text(self, key: str) -> str:
        """Text of any number of lines."""
        value = self._values.pop(key, None)
        if type(value) is not str:
            raise self.error(key, "text")
        return value

    def texts(self, key: str, wanted: str) -> tuple[str, ...]:
        """A list of texts, each once; empty when the key is missing."""
        value = self._values.pop(key, [])
        if (
            type(value) is not list
            or len(value) > MAX_ENTRIES
            or len({str(item) for item in value}) != len(value)
        ):
            raise self.error(key, f"a list of at most {MAX_ENTRIES} different texts")
        for item in value:
            if type(item) is not str or re.fullmatch(wanted, item) is None:
                raise self.error(key, f"texts that match {wanted}")
        return tuple(value)

    def pattern_map(self, key: str, name: str) -> tuple[tuple[str, SafePattern], ...]:
        """A table of patterns, in the order given."""
        table = Table(dict(self._entries(key, name)), f"{self._path}.{key}")
        self._values.pop(key, None)
        return tuple((inner, table.pattern(inner)) for inner in list(table._values))

    def tables(self, key: str, name: str) -> Iterator[tuple[str, Table]]:
        """The sub-tables below a key, by name; none when it is missing."""
        entries = self._entries(key, name)
        self._values.pop(key, None)
        for inner, value in entries:
            if type(value) is not dict:
                raise self.error(f"{key}.{inner}", "a table")
            yield inner, Table(value, f"{self._path}.{key}.{inner}")

    def _entries(self, key: str, name: str) -> list[tuple[str, object]]:
        value = self._values.get(key, {})
        if type(value) is not dict or len(value) > MAX_ENTRIES:
            raise self.error(key, f"a table of at most {MAX_ENTRIES} entries")
        for inner in value:
            if re.fullmatch(name, inner) is None:
                raise self.error(f"{key}.{inner}", f"a name that matches {name}")
        return list(value.items())

    def choice(self, key: str, options: Sequence[str]) -> str:
        """One of a closed list of words."""
        value = self._values.pop(key, None)
        if type(value) is not str or value not in options:
            raise self.error(key, "one of " + ", ".join(options))
        return value

    def flag(self, key: str, *, default: bool) -> bool:
        """True or false."""
        value = self._values.pop(key, default)
        if type(value) is not bool:
            raise self.error(key, "true or false")
        return value

    def number(self, key: str, lo: int, hi: int, *, default: int | None) -> int:
        """A whole number from lo to hi."""
        value = self._values.pop(key, default)
        if type(value) is not int or not lo <= value <= hi:
            raise self.error(key, f"a whole number from {lo} to {hi}")
        return value

    def span(self, key: str, lo: int, hi: int) -> tuple[int, int]:
        """Two whole numbers [low, high] within lo and hi, in order."""
        value = self._values.pop(key, None)
        if type(value) is not list or [type(item) for item in value] != [int, int]:
            raise self.error(key, "a list of two whole numbers")
        if not lo <= value[0] <= value[1] <= hi:
            raise self.error(key, f"two whole numbers in order, from {lo} to {hi}")
        return value[0], value[1]

    def pattern(self, key: str) -> SafePattern:
        """A pattern of the safe subset."""
        try:
            return parse_pattern(self.long_text(key))
        except BadInput as exc:
            raise BadInput(f"{self._path}.{key}: {exc.message}", field=f"{self._path}.{key}") from exc
