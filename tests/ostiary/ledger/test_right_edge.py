"""The right edge: appended in any steps it is the same tree, its rows reassemble it, and it can be
read back.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ostiary.errors import BadInput, NotFound
from ostiary.ledger.memory import MemoryLog
from ostiary.ledger.right_edge import EdgeReader, RightEdge
from ostiary.ledger.tiles import (
    TILE_BYTES,
    TILE_WIDTH,
    Tile,
    TileHashes,
    decode_bundle,
    partial_tiles,
    subtree_root,
    tile_width,
)
from ostiary.ledger.tree import Frontier, leaf_hash, leaf_hashes

MANY = [leaf_hash(index.to_bytes(4, "big")) for index in range(70_000)]


def entries_of(count: int) -> list[bytes]:
    return [index.to_bytes(4, "big") for index in range(count)]


def all_tiles(size: int) -> list[Tile]:
    """List every tile of a tree, by the definition."""
    tiles = []
    for level in range(8):
        index = 0
        while width := tile_width(level, index, size):
            tiles.append(Tile(level=level, index=index, width=width))
            index += 1
    return tiles


def test_the_rows_of_70000_leaves_are_the_tiles_of_the_specification() -> None:
    edge, rows = RightEdge().append(MANY)
    assert edge.frontier == Frontier().extend(MANY)
    assert [len(partial) // 32 for partial in edge.partials] == [112, 17, 1]
    assert sum(row.level == 0 for row in rows) == 273
    # Level 0's partial tile is not stored: its hashes are those of the last entries.
    assert [(row.level, row.index, len(row.hashes) // 32) for row in rows if row.level] == [
        (1, 0, 256),
        (1, 1, 17),
        (2, 0, 1),
    ]
    assert rows[-1].hashes == subtree_root(rows[-3].hashes)
    assert b"".join(row.hashes for row in rows if row.level == 0) + edge.partials[0] == b"".join(MANY)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 600), max_size=6))
def test_steps_do_not_matter(steps: list[int]) -> None:
    edge, at = RightEdge(), 0
    stored: dict[tuple[int, int], bytes] = {}
    for step in steps:
        edge, rows = edge.append(MANY[at : at + step])
        at += step
        for row in rows:
            assert row.hashes.startswith(stored.get((row.level, row.index), b""))
            stored[row.level, row.index] = row.hashes
    at_once, rows = RightEdge().append(MANY[:at])
    assert edge == at_once
    assert stored == {(row.level, row.index): row.hashes for row in rows}


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 3000) | st.sampled_from([255, 256, 257, 511, 512, 65_535, 65_536, 65_537]))
def test_the_edge_is_read_back_from_one_tile_on_each_level(size: int) -> None:
    log = MemoryLog(entries_of(size))
    asked: list[Tile] = []

    class Spy:
        def tile(self, level: int, index: int, width: int) -> bytes:
            asked.append(Tile(level=level, index=index, width=width))
            return log.tile(level, index, width)

    assert RightEdge.read(Spy(), size) == log.edge
    assert asked == partial_tiles(size)


def test_a_small_append_writes_no_row_and_a_full_tile_two() -> None:
    log = MemoryLog(entries_of(300))
    assert log.append([b"one"]) == []
    rows = log.append([b"x"] * 211)
    assert [(row.level, row.index, len(row.hashes)) for row in rows] == [(0, 1, TILE_BYTES), (1, 0, 64)]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1500), st.integers(0, 1500))
def test_tiles_and_bundles_of_any_earlier_size_are_there_and_right(earlier: int, more: int) -> None:
    log = MemoryLog(entries_of(earlier + more))
    for tile in all_tiles(earlier):
        hashes = log.tile(tile.level, tile.index, tile.width)
        span = TILE_WIDTH**tile.level
        start = tile.index * TILE_WIDTH * span
        leaves = leaf_hashes(entries_of(earlier))[start : start + tile.width * span]
        expected = [Frontier().extend(leaves[at : at + span]).root() for at in range(0, len(leaves), span)]
        assert hashes == b"".join(expected)
        if tile.level == 0:
            bundle = decode_bundle(log.bundle(tile.index, tile.width), width=tile.width)
            assert b"".join(leaf_hashes(bundle)) == hashes


def test_the_reader_joins_stored_tiles_and_the_edge() -> None:
    log = MemoryLog(entries_of(700))

    class Stored:
        def tile(self, level: int, index: int, width: int) -> bytes:
            if (level, index) not in {(0, 0), (0, 1)}:
                raise NotFound("a partial tile was asked of the store")
            return log.tile(level, index, width)

    reader = EdgeReader(stored=Stored(), edge=log.edge)
    for tile in all_tiles(700):
        assert reader.tile(tile.level, tile.index, tile.width) == log.tile(tile.level, tile.index, tile.width)
    assert reader.tile(0, 2, 10) == log.tile(0, 2, 188)[:320]


@pytest.mark.parametrize(
    ("level", "index", "width"), [(0, 2, 189), (0, 3, 1), (1, 0, 3), (1, 1, 1), (2, 0, 1), (9, 0, 1)]
)
def test_what_the_edge_does_not_hold(level: int, index: int, width: int) -> None:
    log = MemoryLog(entries_of(700))
    with pytest.raises(NotFound):
        EdgeReader(stored=log, edge=log.edge).tile(level, index, width)
    with pytest.raises(NotFound):
        log.tile(level, index, width)


def test_a_store_that_gives_too_little_is_noticed() -> None:
    class Short:
        def tile(self, level: int, index: int, width: int) -> bytes:
            return bytes(32 * width - 1)

    with pytest.raises(BadInput, match="width 3"):
        RightEdge.read(Short(), 3)


def test_bundles_that_are_not_there() -> None:
    with pytest.raises(NotFound):
        MemoryLog(entries_of(3)).bundle(0, 4)


def test_rows_are_values() -> None:
    assert TileHashes(level=0, index=0, hashes=b"x") == TileHashes(level=0, index=0, hashes=b"x")
