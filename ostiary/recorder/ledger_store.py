"""The recorder's side of the ledger: appends within a transaction, and the edge of the tree in memory.

Rules:
- `append` writes within the caller's transaction and changes nothing in memory; `advance` moves the edge once
  that transaction is durable. A turn that fails leaves both where they were.
- Appending costs the same at any size; a start reads one tile per level, never all.
- `lock` is the one order of all recorders of a store: SQLite's write lock, or the head's row FOR UPDATE,
  after which the edge is read again where another recorder moved it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
from sqlalchemy import Connection, Engine, bindparam, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from ostiary.errors import InternalFault
from ostiary.ledger.checkpoint import read_checkpoint
from ostiary.ledger.proof import read_frontier
from ostiary.ledger.right_edge import RightEdge
from ostiary.ledger.tiles import TileHashes
from ostiary.ledger.tree import Frontier, leaf_hashes
from ostiary.store.ledger_reader import SqlHashReader
from ostiary.store.ledger_tables import LedgerTables
from ostiary.store.ledger_terms import term_digest, terms_of
from ostiary.store.statement import Statement

_HEAD_ID = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Appended:
    """What a transaction appended: the index of its first entry, its leaf hashes, and the tree's edge after
    them.
    """

    first: int
    leaf_hashes: tuple[bytes, ...]
    edge: RightEdge


class LedgerStore:
    """One ledger in one store. Owner: the recorder's only thread."""

    def __init__(self, engine: Engine, tables: LedgerTables) -> None:
        self._engine = engine
        self._tables = tables
        self._sql = _Statements(engine, tables)
        with engine.begin() as tx:
            self._edge = self._read_edge(tx)

    @property
    def size(self) -> int:
        """The number of durable entries."""
        return self._edge.size

    def lock(self, tx: Connection) -> None:
        """Make this transaction the only writer of the store until it ends."""
        (head,) = self._sql.lock_head.fetch(tx, {})
        # Another recorder of the same store (PostgreSQL) wrote since: what is in memory is old.
        if head["size"] != self._edge.size:
            self._edge = self._read_edge(tx)

    def append(self, tx: Connection, entries: Sequence[bytes], salts: Sequence[bytes | None]) -> Appended:
        """Write entries (canonical JSON) with their salts behind the last one."""
        first = self._edge.size
        hashes = leaf_hashes(entries)
        edge, rows = self._edge.append(hashes)
        if entries:
            self._sql.insert_entries.run_each(tx, _entry_rows(first, entries, hashes, salts))
            self._index(tx, first, entries)
            self._write_tiles(tx, rows)
            self._sql.set_size.run(tx, {"new": edge.size})
        return Appended(first=first, leaf_hashes=tuple(hashes), edge=edge)

    def advance(self, appended: Appended) -> None:
        """Go on from what `append` wrote: its transaction is durable now."""
        self._edge = appended.edge

    def store_note(self, tx: Connection, note: bytes) -> None:
        """Keep the newest signed note."""
        self._sql.set_note.run(tx, {"new": note})

    def last_signed(self) -> tuple[bytes, Frontier]:
        """The newest stored note and its tree's frontier; b"" and an empty one before the first."""
        with self._engine.begin() as tx:
            note = tx.execute(
                select(self._tables.head.c.note).where(self._tables.head.c.id == _HEAD_ID)
            ).scalar_one()
            # NOT NULL, so that the head's one row is there from the start: the empty note is "none yet".
            if not note:
                return b"", Frontier()
            return note, read_frontier(SqlHashReader(tx, self._tables), read_checkpoint(note).size)

    def leaf_hashes(self, first: int, end: int) -> bytes:
        """The leaf hashes of entries first..end-1, 32 bytes each."""
        entries = self._tables.entries
        query = (
            select(entries.c.leaf_hash)
            .where(entries.c.seq >= first, entries.c.seq < end)
            .order_by(entries.c.seq)
        )
        with self._engine.begin() as tx:
            found = list(tx.execute(query).scalars())
        if len(found) != end - first:
            raise InternalFault(f"the store lacks some of the entries {first} to {end - 1}: it is damaged")
        return b"".join(found)

    def _read_edge(self, tx: Connection) -> RightEdge:
        size = tx.execute(
            select(self._tables.head.c.size).where(self._tables.head.c.id == _HEAD_ID)
        ).scalar_one_or_none()
        if size is None:
            tx.execute(insert(self._tables.head).values(id=_HEAD_ID, size=0, note=b""))
            return RightEdge()
        return RightEdge.read(SqlHashReader(tx, self._tables), size)

    def _write_tiles(self, tx: Connection, rows: Sequence[TileHashes]) -> None:
        if rows:
            tiles = [{"level": r.level, "tile": r.index, "hashes": r.hashes} for r in rows]
            self._sql.replace_tiles.run_each(tx, tiles)

    def _index(self, tx: Connection, first: int, entries: Sequence[bytes]) -> None:
        terms = [
            {"term": digest, "seq": seq}
            for seq, entry in enumerate(entries, first)
            # A set: two terms of one entry may share their digest.
            for digest in {term_digest(term) for term in terms_of(msgspec.json.decode(entry))}
        ]
        if terms:
            self._sql.insert_terms.run_each(tx, terms)


class _Statements:
    """The statements that every turn executes, compiled once (ostiary/store/statement.py says why)."""

    def __init__(self, engine: Engine, tables: LedgerTables) -> None:
        the_head = tables.head.c.id == _HEAD_ID
        self.lock_head = Statement(select(tables.head.c.size).where(the_head).with_for_update())
        self.set_size = Statement(update(tables.head).where(the_head).values(size=bindparam("new")))
        self.set_note = Statement(update(tables.head).where(the_head).values(note=bindparam("new")))
        self.insert_entries = Statement(insert(tables.entries))
        self.insert_terms = Statement(insert(tables.index))
        # An upsert, in the one syntax that both dialects share; SQLAlchemy keeps two classes for it.
        dialect = postgresql if engine.dialect.name == "postgresql" else sqlite
        tiles = dialect.insert(tables.tiles)
        self.replace_tiles = Statement(
            tiles.on_conflict_do_update(
                index_elements=["level", "tile"], set_={"hashes": tiles.excluded.hashes}
            )
        )


def _entry_rows(
    first: int, entries: Sequence[bytes], hashes: Sequence[bytes], salts: Sequence[bytes | None]
) -> list[dict[str, object]]:
    return [
        {"seq": seq, "leaf_hash": leaf, "entry": entry, "salt": salt}
        for seq, (entry, leaf, salt) in enumerate(zip(entries, hashes, salts, strict=True), first)
    ]
