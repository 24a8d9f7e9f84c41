"""The operators' verbs over a ledger, the same for every service. They read; the command line checks.

    verb                arguments            result
    ledger.checkpoint                        {"origin", "size", "note"}
    ledger.entries      first, count         [{"index", "entry"}], as many as fit into one message
    ledger.find         terms, first, count  the same, of entries with any of the terms (`serial:...`, ...)
    ledger.prove        index                {"index", "proof", "entry"}
    ledger.consistency  old_size             {"note", "path"}
    ledger.tile         level, index, width  {"hashes"}
    ledger.page         first, count         the entries as bytes (ostiary/admin/protocol.py), as many as fit
    ledger.leaves       tile                 the stored hashes of the full tiles of level 0 from this one on

An entry is text (canonical JSON, to be hashed byte for byte), a hash lower-case hex, a note or a proof text
(C2SP).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, Final

import msgspec
from sqlalchemy import Engine

from ostiary.admin.protocol import encode_page
from ostiary.admin.server import Verb, arguments_of
from ostiary.ledger.checkpoint import read_checkpoint
from ostiary.ledger.tiles import TILE_BYTES, TILE_WIDTH
from ostiary.ledger.tree import MAX_SIZE
from ostiary.store.database import reading
from ostiary.store.ledger_reader import MAX_ENTRIES, LedgerReader
from ostiary.store.ledger_tables import LedgerTables
from ostiary.work.item import Operator

MAX_ANSWER_BYTES: Final = 256 * 1024
"""Half of what a channel takes: an entry is JSON in a JSON string, where each quote becomes two bytes."""

Json = dict[str, Any]
# The types below forbid unknown arguments: a misspelled one is an error, not a default.
_Natural = Annotated[int, msgspec.Meta(ge=0, le=MAX_SIZE)]


class _Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class _Range(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    first: _Natural = 0
    count: _Natural = MAX_ENTRIES


class _Terms(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    terms: list[str]
    first: _Natural = 0
    count: _Natural = MAX_ENTRIES


class _Index(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    index: _Natural


class _LeafTile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    tile: Annotated[int, msgspec.Meta(ge=0, le=MAX_SIZE // TILE_WIDTH)]


class _OldSize(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    old_size: _Natural


class _Tile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    level: _Natural
    index: Annotated[int, msgspec.Meta(ge=0, le=MAX_SIZE // TILE_WIDTH)]
    width: Annotated[int, msgspec.Meta(ge=1, le=TILE_WIDTH)]


def ledger_verbs(engine: Engine, tables: LedgerTables, *, origin: str) -> Mapping[str, Verb]:
    """Return the verbs; `engine` is read-only."""
    verbs = _LedgerVerbs(engine, tables, origin)
    table: dict[str, Callable[[Json], Any]] = {
        "ledger.checkpoint": verbs.checkpoint,
        "ledger.entries": verbs.entries,
        "ledger.find": verbs.find,
        "ledger.prove": verbs.prove,
        "ledger.consistency": verbs.consistency,
        "ledger.tile": verbs.tile,
        "ledger.page": verbs.page,
        "ledger.leaves": verbs.leaves,
    }
    return {name: _verb(answer) for name, answer in table.items()}


def _verb(answer: Callable[[Json], Any]) -> Verb:
    """Make a verb that ignores which operator calls: the socket admitted one, and every operator may read."""

    def verb(_operator: Operator, arguments: Json) -> Any:
        return answer(arguments)

    return verb


class _LedgerVerbs:
    def __init__(self, engine: Engine, tables: LedgerTables, origin: str) -> None:
        self._engine = engine
        self._tables = tables
        self._origin = origin

    # One read transaction for each call, so that a note, its proof and the entries belong together.
    @contextmanager
    def _reading(self) -> Iterator[LedgerReader]:
        with reading(self._engine) as tx:
            yield LedgerReader(tx, self._tables)

    def checkpoint(self, arguments: Json) -> Json:
        arguments_of(arguments, _Nothing)
        with self._reading() as ledger:
            note = ledger.note()
        return {"origin": self._origin, "size": read_checkpoint(note).size, "note": note.decode()}

    def entries(self, arguments: Json) -> list[Json]:
        asked = arguments_of(arguments, _Range)
        with self._reading() as ledger:
            return _bounded(ledger.entries(asked.first, asked.count))

    def find(self, arguments: Json) -> list[Json]:
        asked = arguments_of(arguments, _Terms)
        with self._reading() as ledger:
            return _bounded(ledger.find(asked.terms, first=asked.first, count=asked.count))

    def prove(self, arguments: Json) -> Json:
        index = arguments_of(arguments, _Index).index
        with self._reading() as ledger:
            proof, entry = ledger.prove(index)
        return {"index": index, "proof": proof.decode(), "entry": entry.decode()}

    def consistency(self, arguments: Json) -> Json:
        old_size = arguments_of(arguments, _OldSize).old_size
        with self._reading() as ledger:
            return {
                "note": ledger.note().decode(),
                "path": [node.hex() for node in ledger.consistency(old_size)],
            }

    def tile(self, arguments: Json) -> Json:
        asked = arguments_of(arguments, _Tile)
        with self._reading() as ledger:
            return {"hashes": ledger.hashes.tile(asked.level, asked.index, asked.width).hex()}

    # The two below are what a verification of the whole ledger reads, hence bytes and as many as fit.
    def page(self, arguments: Json) -> bytes:
        asked = arguments_of(arguments, _Range)
        with self._reading() as ledger:
            entries, following = ledger.page(asked.first, asked.count, max_bytes=MAX_ANSWER_BYTES)
        return encode_page(entries, following=following)

    def leaves(self, arguments: Json) -> bytes:
        asked = arguments_of(arguments, _LeafTile)
        with self._reading() as ledger:
            return ledger.leaf_tiles(asked.tile, MAX_ANSWER_BYTES // TILE_BYTES)


def _bounded(rows: Sequence[tuple[int, bytes]]) -> list[Json]:
    """Return as many rows as fit into one message, but at least one: the caller pages on by index."""
    taken: list[Json] = []
    size = 0
    for index, entry in rows:
        size += len(entry)
        if taken and size > MAX_ANSWER_BYTES:
            break
        taken.append({"index": index, "entry": entry.decode()})
    return taken
