"""The right edge of a growing ledger: what the recorder keeps in memory, and which tiles each append writes.

Rules:
- appending k leaves costs about 2k hashes and one copy of at most 8 KiB, whatever the tree's size;
- `append` returns the rows to store in the transaction that stores the entries: every tile that became full,
  and the partial tile of each higher level that grew (once in 256 entries). The partial tile of level 0 is
  not among them: its hashes are those of the last entries, which are stored anyway;
- a row is stored under (level, index) and replaces a narrower one;
- after a start the edge is read back from at most one tile on each level, never by a scan.

The frontier is kept beside the tiles because each batch needs the root. So each leaf is hashed into the tree
twice, about 2 us an entry, which buys the simpler code (docs/adr/0005).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ostiary.errors import BadInput, NotFound
from ostiary.ledger.tiles import (
    TILE_BYTES,
    TILE_HEIGHT,
    TILE_WIDTH,
    HashReader,
    TileHashes,
    partial_tiles,
    subtree_root,
)
from ostiary.ledger.tree import HASH_BYTES, Frontier

__all__ = ["EdgeReader", "RightEdge"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RightEdge:
    """A frontier and the partial tiles of the same tree; `partials` starts at level 0, b"" where a level has
    none.
    """

    frontier: Frontier = field(default_factory=Frontier)
    partials: tuple[bytes, ...] = ()

    @property
    def size(self) -> int:
        """The number of leaves."""
        return self.frontier.size

    def append(self, leaves: Sequence[bytes]) -> tuple[RightEdge, list[TileHashes]]:
        """Return the edge after these leaf hashes, and the rows to store, by level and index."""
        rows: list[TileHashes] = []
        partials: list[bytes] = []
        added = b"".join(leaves)
        # Level by level: the tiles that became full on one are the hashes that are added to the next.
        while added or len(partials) < len(self.partials):
            level = len(partials)
            rest, written = self._grow(level, added)
            rows += written
            partials.append(rest)
            added = b"".join([subtree_root(row.hashes) for row in written if len(row.hashes) == TILE_BYTES])
        edge = RightEdge(frontier=self.frontier.extend(leaves), partials=tuple(partials))
        return edge, rows

    def _grow(self, level: int, added: bytes) -> tuple[bytes, list[TileHashes]]:
        """Return the level's partial tile and its rows after hashes were added to it."""
        hashes = (self.partials[level] if level < len(self.partials) else b"") + added
        index = self.size >> TILE_HEIGHT * (level + 1)
        rows = []
        while len(hashes) >= TILE_BYTES:
            rows.append(TileHashes(level=level, index=index, hashes=hashes[:TILE_BYTES]))
            hashes = hashes[TILE_BYTES:]
            index += 1
        # Not on level 0, whose hashes are stored with the entries themselves; a store that had only full
        # tiles would have to hash up to 255 of them on each level at a start.
        if level and added and hashes:
            rows.append(TileHashes(level=level, index=index, hashes=hashes))
        return hashes, rows

    @classmethod
    def read(cls, hashes: HashReader, size: int) -> RightEdge:
        """Read the edge of a tree of `size` leaves back; the caller compares the root with a checkpoint's."""
        partials: list[bytes] = []
        for tile in partial_tiles(size):
            partials += [b""] * (tile.level - len(partials))
            partials.append(_exactly(hashes.tile(tile.level, tile.index, tile.width), tile.width))
        # One level for each eight bits of the size, also where the last one has no partial tile.
        levels = max(1, -(-size.bit_length() // TILE_HEIGHT)) if size else 0
        partials += [b""] * (levels - len(partials))
        return cls(frontier=_frontier_of(size, partials), partials=tuple(partials))

    def tile(self, level: int, index: int, width: int) -> bytes:
        """Return hashes of a partial tile of this edge; NotFound for any other."""
        partial = self.partials[level] if level < len(self.partials) else b""
        if index != self.size >> TILE_HEIGHT * (level + 1) or width * HASH_BYTES > len(partial):
            raise NotFound(f"the tile {level}/{index} of width {width} is not at the right edge")
        return partial[: width * HASH_BYTES]


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeReader:
    """A HashReader over stored tiles and the edge that is in memory: the edge answers what it has."""

    stored: HashReader
    edge: RightEdge

    def tile(self, level: int, index: int, width: int) -> bytes:
        """Return the first `width` hashes of a tile."""
        if index == self.edge.size >> TILE_HEIGHT * (level + 1):
            return self.edge.tile(level, index, width)
        return self.stored.tile(level, index, width)


def _exactly(hashes: bytes, width: int) -> bytes:
    if len(hashes) != width * HASH_BYTES:
        raise BadInput(f"a tile of width {width} came with {len(hashes)} bytes")
    return hashes


def _frontier_of(size: int, partials: Sequence[bytes]) -> Frontier:
    peaks: list[bytes] = []
    for level in reversed(range(len(partials))):
        width = (size >> TILE_HEIGHT * level) % TILE_WIDTH
        at = 0
        for bit in reversed(range(TILE_HEIGHT)):
            if width >> bit & 1:
                end = at + (HASH_BYTES << bit)
                peaks.append(subtree_root(partials[level][at:end]))
                at = end
    return Frontier(size=size, peaks=tuple(peaks))
