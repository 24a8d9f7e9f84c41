"""Reading a ledger from the store: tiles for proofs, entries for audits. Any process may read, with an engine
that cannot write.

A reader works within one transaction, so that size, note and tiles belong to one state.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, select

from ostiary.errors import NotFound
from ostiary.ledger.checkpoint import read_checkpoint
from ostiary.ledger.proof import build_consistency_proof, build_inclusion_proof
from ostiary.ledger.tiles import TILE_BYTES, TILE_WIDTH
from ostiary.ledger.tlog_proof import TlogProof, encode_proof
from ostiary.ledger.tree import HASH_BYTES
from ostiary.store.ledger_tables import LedgerTables
from ostiary.store.ledger_terms import is_about, term_digest

# About a megabyte of JSON in one answer.
MAX_ENTRIES = 1000


class SqlHashReader:
    """The stored tiles as a `HashReader`; the partial tile of level 0 is read from the entries."""

    def __init__(self, tx: Connection, tables: LedgerTables) -> None:
        self._tx = tx
        self._tables = tables

    def tile(self, level: int, index: int, width: int) -> bytes:
        """Return exactly the first `width` hashes of a tile; NotFound where it has fewer."""
        tiles = self._tables.tiles
        query = select(tiles.c.hashes).where(tiles.c.level == level, tiles.c.tile == index)
        hashes: bytes | None = self._tx.execute(query).scalar_one_or_none()
        # The partial tile of level 0 is not stored (docs/adr/0005): its hashes stand beside the last entries.
        if hashes is None and level == 0:
            hashes = self._leaves(index * TILE_WIDTH, width)
        if hashes is None or len(hashes) < width * HASH_BYTES:
            raise NotFound(f"no tile {level}/{index} of width {width}")
        return hashes[: width * HASH_BYTES]

    def _leaves(self, first: int, count: int) -> bytes:
        entries = self._tables.entries
        query = (
            select(entries.c.leaf_hash)
            .where(entries.c.seq >= first, entries.c.seq < first + count)
            .order_by(entries.c.seq)
        )
        return b"".join(self._tx.execute(query).scalars())


class LedgerReader:
    """What audits ask of one ledger, within one transaction."""

    def __init__(self, tx: Connection, tables: LedgerTables) -> None:
        self._tx = tx
        self._tables = tables
        self.hashes = SqlHashReader(tx, tables)

    def note(self) -> bytes:
        """The newest signed note; NotFound before the first."""
        note: bytes | None = self._tx.execute(select(self._tables.head.c.note)).scalar_one_or_none()
        if not note:
            raise NotFound("the ledger has no signed checkpoint yet")
        return note

    def entries(self, first: int, count: int) -> list[tuple[int, bytes]]:
        """Up to MAX_ENTRIES (index, entry) from `first` on."""
        table = self._tables.entries
        query = (
            select(table.c.seq, table.c.entry)
            .where(table.c.seq >= first)
            .order_by(table.c.seq)
            .limit(min(count, MAX_ENTRIES))
        )
        return [(seq, entry) for seq, entry in self._tx.execute(query)]

    def page(self, first: int, count: int, *, max_bytes: int) -> tuple[list[bytes], int]:
        """Up to MAX_ENTRIES entries from `first` on, at least one if there is any, else no more bytes than
        `max_bytes`; and the index behind the last one.
        """
        table = self._tables.entries
        query = (
            select(table.c.seq, table.c.entry)
            .where(table.c.seq >= first)
            .order_by(table.c.seq)
            .limit(min(count, MAX_ENTRIES))
        )
        taken: list[bytes] = []
        following = first
        left = max_bytes
        for seq, entry in self._tx.execute(query):
            left -= len(entry)
            if taken and left < 0:
                break
            taken.append(entry)
            following = seq + 1
        return taken, following

    def leaf_tiles(self, index: int, count: int) -> bytes:
        """The stored hashes of the full tiles of level 0, `index` and up to `count` in all, side by side; it
        ends before the first one that is not stored whole.
        """
        tiles = self._tables.tiles
        query = (
            select(tiles.c.tile, tiles.c.hashes)
            .where(tiles.c.level == 0, tiles.c.tile >= index, tiles.c.tile < index + count)
            .order_by(tiles.c.tile)
        )
        taken: list[bytes] = []
        for expected, (tile, hashes) in enumerate(self._tx.execute(query), index):
            if tile != expected or len(hashes) != TILE_BYTES:
                break
            taken.append(hashes)
        return b"".join(taken)

    def find(self, terms: Sequence[str], *, first: int, count: int) -> list[tuple[int, bytes]]:
        """Entries under any of these terms (`serial:...`), from `first` on."""
        table, index = self._tables.entries, self._tables.index
        about = frozenset(terms)
        digests = {term_digest(term) for term in about}
        wanted = min(count, MAX_ENTRIES)
        found: list[tuple[int, bytes]] = []
        while len(found) < wanted:
            of_terms = select(index.c.seq).where(index.c.term.in_(digests), index.c.seq >= first)
            query = (
                select(table.c.seq, table.c.entry)
                .where(table.c.seq.in_(of_terms))
                .order_by(table.c.seq)
                .limit(wanted)
            )
            rows = self._tx.execute(query).all()
            if not rows:
                break
            # Another term may have the same digest.
            found += [(seq, entry) for seq, entry in rows if is_about(entry, about)]
            first = rows[-1].seq + 1
        return found[:wanted]

    def prove(self, index: int) -> tuple[bytes, bytes]:
        """The tlog-proof of one entry under the newest note, and the entry; NotFound where the tree of that
        note does not hold it yet.
        """
        note = self.note()
        size = read_checkpoint(note).size
        rows = self.entries(index, 1)
        if not 0 <= index < size or not rows or rows[0][0] != index:
            raise NotFound(f"no entry {index} in the signed tree of {size} entries")
        proof = TlogProof(
            index=index, path=build_inclusion_proof(self.hashes, index=index, size=size), note=note
        )
        return encode_proof(proof), rows[0][1]

    def consistency(self, old_size: int) -> tuple[bytes, ...]:
        """The consistency proof from a tree of `old_size` to the newest signed one."""
        return build_consistency_proof(
            self.hashes, old_size=old_size, new_size=read_checkpoint(self.note()).size
        )
