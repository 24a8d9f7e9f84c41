"""A ledger in memory: what a store does, without the store.

For tests, for simulations, and for checking an exported log whose tiles are built anew. Keeps the same rows
as a store: entries in order, tiles under (level, index).
"""

from __future__ import annotations

from collections.abc import Iterable

from ostiary.errors import NotFound
from ostiary.ledger.right_edge import RightEdge
from ostiary.ledger.tiles import TILE_WIDTH, TileHashes, encode_bundle
from ostiary.ledger.tree import HASH_BYTES, Frontier, leaf_hashes

__all__ = ["MemoryLog"]


class MemoryLog:
    """Entries, their tiles and the right edge; a HashReader. Not for use by several threads."""

    def __init__(self, entries: Iterable[bytes] = ()) -> None:
        self.entries: list[bytes] = []
        self.edge = RightEdge()
        self.rows: dict[tuple[int, int], bytes] = {}
        self.append(entries)

    @property
    def size(self) -> int:
        """The number of entries."""
        return len(self.entries)

    @property
    def frontier(self) -> Frontier:
        """The frontier over all entries."""
        return self.edge.frontier

    def append(self, entries: Iterable[bytes]) -> list[TileHashes]:
        """Add entries; return the rows that a store would write beside them."""
        added = list(entries)
        self.edge, rows = self.edge.append(leaf_hashes(added))
        self.entries += added
        self.rows.update({(row.level, row.index): row.hashes for row in rows})
        return rows

    def tile(self, level: int, index: int, width: int) -> bytes:
        """Read as a store does: rows first, then, on level 0, the entries themselves."""
        # As in a store: the partial tile of level 0 is not among the rows.
        hashes = self.rows.get((level, index), b"")
        if not hashes and level == 0:
            hashes = b"".join(leaf_hashes(self.entries[index * TILE_WIDTH : (index + 1) * TILE_WIDTH]))
        if len(hashes) < width * HASH_BYTES:
            raise NotFound(f"the tile {level}/{index} has no {width} hashes")
        return hashes[: width * HASH_BYTES]

    def bundle(self, index: int, width: int) -> bytes:
        """Return an entry bundle."""
        start = index * TILE_WIDTH
        if start + width > self.size:
            raise NotFound(f"the bundle {index} has no {width} entries")
        return encode_bundle(self.entries[start : start + width])
