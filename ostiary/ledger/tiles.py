"""Tiles: the coordinates and bytes in which a ledger's tree and entries are stored and served.

Rules (C2SP tlog-tiles):
- a tile at level L holds up to 256 hashes of subtrees of 256**L leaves; the root of a full tile is a hash of
  level L + 1;
- the right-most tile of a level may be partial: width = floor(size / 256**L) mod 256; an empty one does not
  exist;
- path `tile/<L>/<N>[.p/<W>]`, entries `tile/entries/<N>[.p/<W>]`; N in groups of three digits, all but the
  last with an `x` before them; W only where the tile is partial;
- an entry bundle is each entry behind its length as big-endian uint16, so an entry has at most 65,535 bytes.

A tile never changes but for growing to the right: a narrower one is a prefix of a wider one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol

from ostiary.errors import BadInput
from ostiary.ledger.tree import HASH_BYTES, MAX_SIZE

__all__ = [
    "MAX_ENTRY_BYTES",
    "TILE_BYTES",
    "TILE_WIDTH",
    "Bundle",
    "HashReader",
    "Tile",
    "TileHashes",
    "decode_bundle",
    "encode_bundle",
    "parse_path",
    "partial_tiles",
    "subtree_root",
    "tile_width",
]

TILE_HEIGHT = 8
TILE_WIDTH = 1 << TILE_HEIGHT
TILE_BYTES = TILE_WIDTH * HASH_BYTES
# What the specification allows. A tree of 2**63 leaves, the largest here, has eight levels.
MAX_LEVEL = 63
# A bundle gives two bytes to each length.
MAX_ENTRY_BYTES = 0xFFFF

_PATH = re.compile(
    r"tile/(?P<level>entries|0|[1-9][0-9]?)"
    r"/(?P<index>(?:x[0-9]{3}/)*[0-9]{3})"
    r"(?:\.p/(?P<width>[1-9][0-9]{0,2}))?",
    re.ASCII,
)


class HashReader(Protocol):
    """Where proofs read tiles from; a reader shows one committed state for as long as a proof is made."""

    def tile(self, level: int, index: int, width: int) -> bytes:
        """Return exactly the first `width` (1 to 256) hashes of a tile, 32 bytes each; NotFound if it has
        fewer.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """The place of a run of hashes in the tree."""

    level: int
    index: int
    width: int = TILE_WIDTH

    def __post_init__(self) -> None:
        if not 0 <= self.level <= MAX_LEVEL:
            raise BadInput(f"there is no tile level {self.level}", field="level")
        _check_place(self.index, self.width)

    def path(self) -> str:
        """Return the path below the log's prefix."""
        return f"tile/{self.level}/{_index_and_width(self.index, self.width)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """The place of a run of entries, beside the tile of level 0 with the same index and width."""

    index: int
    width: int = TILE_WIDTH

    def __post_init__(self) -> None:
        _check_place(self.index, self.width)

    def path(self) -> str:
        """Return the path below the log's prefix."""
        return f"tile/entries/{_index_and_width(self.index, self.width)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TileHashes:
    """The hashes of one tile, from its start to what there is of it: a row to store."""

    level: int
    index: int
    hashes: bytes


def parse_path(path: str) -> Tile | Bundle:
    """Read the path of a tile or a bundle below the log's prefix; raises BadInput for any other spelling."""
    match = _PATH.fullmatch(path)
    # One path for one tile: no leading group of zeros, and no width where the tile is full.
    if match is None or match["index"].startswith("x000/") or match["width"] == str(TILE_WIDTH):
        raise BadInput(f"{path[:80]!r} is not the path of a tile", field="path")
    index = int(match["index"].replace("x", "").replace("/", ""))
    width = int(match["width"] or TILE_WIDTH)
    if match["level"] == "entries":
        return Bundle(index=index, width=width)
    return Tile(level=int(match["level"]), index=index, width=width)


def tile_width(level: int, index: int, size: int) -> int:
    """Return how many hashes a tile has in a tree of `size` leaves: 0 to 256."""
    return max(0, min(TILE_WIDTH, (size >> TILE_HEIGHT * level) - index * TILE_WIDTH))


def partial_tiles(size: int) -> list[Tile]:
    """Return the partial tiles at the right edge of a tree, level 0 first; at most one on each level."""
    tiles = []
    level = 0
    while hashes := size >> TILE_HEIGHT * level:
        index, width = divmod(hashes, TILE_WIDTH)
        if width:
            tiles.append(Tile(level=level, index=index, width=width))
        level += 1
    return tiles


def subtree_root(hashes: bytes) -> bytes:
    """Return the root over a power of two of hashes, as they stand side by side in a tile."""
    while len(hashes) > HASH_BYTES:
        hashes = b"".join(
            [sha256(b"\x01" + hashes[at : at + 64]).digest() for at in range(0, len(hashes), 2 * HASH_BYTES)]
        )
    return hashes


def encode_bundle(entries: Iterable[bytes]) -> bytes:
    """Put entries behind their lengths; raises BadInput for an entry that is too long."""
    parts: list[bytes] = []
    for entry in entries:
        if len(entry) > MAX_ENTRY_BYTES:
            raise BadInput(f"an entry has {len(entry)} bytes; at most {MAX_ENTRY_BYTES} fit", field="entry")
        parts += (len(entry).to_bytes(2, "big"), entry)
    return b"".join(parts)


def decode_bundle(data: bytes, *, width: int) -> list[bytes]:
    """Take a bundle apart into exactly `width` entries; raises BadInput for more, fewer or a cut-off one."""
    entries: list[bytes] = []
    at = 0
    while at < len(data) and len(entries) < width:
        # A length that is cut off reads as less, and then the end does not meet: found below.
        start = at + 2
        at = start + int.from_bytes(data[at:start], "big")
        entries.append(data[start:at])
    if at != len(data) or len(entries) != width:
        raise BadInput(f"the bytes are not a bundle of {width} entries", field="bundle")
    return entries


def _check_place(index: int, width: int) -> None:
    if not 0 <= index <= MAX_SIZE:
        raise BadInput(f"there is no tile {index}", field="index")
    if not 1 <= width <= TILE_WIDTH:
        raise BadInput(f"a tile must be 1 to {TILE_WIDTH} wide, not {width}", field="width")


def _index_and_width(index: int, width: int) -> str:
    groups = [f"{index % 1000:03}"]
    while index := index // 1000:
        groups.append(f"x{index % 1000:03}")
    path = "/".join(reversed(groups))
    return path if width == TILE_WIDTH else f"{path}.p/{width}"
