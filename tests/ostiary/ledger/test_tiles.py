"""Tiles: the examples of C2SP tlog-tiles, bundles, and the right edge against a tree built at once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary.errors import BadInput
from ostiary.ledger.tiles import (
    MAX_ENTRY_BYTES,
    Bundle,
    Tile,
    decode_bundle,
    encode_bundle,
    parse_path,
    partial_tiles,
    subtree_root,
    tile_width,
)
from ostiary.ledger.tree import Frontier, leaf_hash


@pytest.mark.parametrize(
    ("place", "path"),
    [
        (Tile(level=0, index=1_234_067), "tile/0/x001/x234/067"),  # the specification's example
        (Tile(level=0, index=0), "tile/0/000"),
        (Tile(level=1, index=999, width=17), "tile/1/999.p/17"),
        (Tile(level=2, index=1000, width=255), "tile/2/x001/000.p/255"),
        (Tile(level=63, index=0, width=1), "tile/63/000.p/1"),
        (Bundle(index=273, width=112), "tile/entries/273.p/112"),
        (Bundle(index=1_000_000), "tile/entries/x001/x000/000"),
    ],
)
def test_paths(place: Tile | Bundle, path: str) -> None:
    assert place.path() == path
    assert parse_path(path) == place


@given(st.integers(0, 2**63 - 1), st.integers(0, 63), st.integers(1, 256))
def test_paths_read_as_they_were_printed(index: int, level: int, width: int) -> None:
    tile = Tile(level=level, index=index, width=width)
    assert parse_path(tile.path()) == tile


@pytest.mark.parametrize(
    "path",
    [
        "tile/00/000",
        "tile/64/000",
        "tile/0/0",
        "tile/0/1234",
        "tile/0/001/234",
        "tile/0/x000/001",
        "tile/0/x001",
        "tile/0/000.p/0",
        "tile/0/000.p/01",
        "tile/0/000.p/256",
        "tile/0/000.p/257",
        "tile/0/000/",
        "/tile/0/000",
        "tile/0/000\n",
        "tile/0/\u0660\u0660\u0660",
        "tile/-1/000",
        "tile/entries/../0/000",
        "tile/0/" + "x999/" * 20 + "999",
    ],
)
def test_other_spellings_are_refused(path: str) -> None:
    with pytest.raises(BadInput):
        parse_path(path)


def test_the_specification_s_tree_of_70000() -> None:
    assert partial_tiles(70_000) == [
        Tile(level=0, index=273, width=112),
        Tile(level=1, index=1, width=17),
        Tile(level=2, index=0, width=1),
    ]
    assert partial_tiles(256) == [Tile(level=1, index=0, width=1)]
    assert partial_tiles(0) == []
    assert [tile_width(0, index, 70_000) for index in (0, 272, 273, 274)] == [256, 256, 112, 0]
    assert [tile_width(1, index, 70_000) for index in (0, 1, 2)] == [256, 17, 0]


def test_a_bundle_s_bytes() -> None:
    assert encode_bundle([b"ab", b"", b"c" * 258]) == b"\0\2ab\0\0\1\2" + b"c" * 258


@given(st.lists(st.binary(max_size=300), max_size=40))
def test_bundles_round_trip(entries: list[bytes]) -> None:
    assert decode_bundle(encode_bundle(entries), width=len(entries)) == entries


def test_the_longest_entry_fits_and_no_longer_one() -> None:
    longest = bytes(MAX_ENTRY_BYTES)
    assert decode_bundle(encode_bundle([longest]), width=1) == [longest]
    with pytest.raises(BadInput, match="65535"):
        encode_bundle([longest + b"x"])


@pytest.mark.parametrize(
    ("data", "width"), [(b"", 1), (b"\0", 1), (b"\0\1", 1), (b"\0\1a", 2), (b"\0\1a\0\1b", 1), (b"\0\1ab", 1)]
)
def test_bundles_of_another_width(data: bytes, width: int) -> None:
    with pytest.raises(BadInput, match="bundle"):
        decode_bundle(data, width=width)


@pytest.mark.parametrize("height", range(9))
def test_a_subtree_s_root_is_the_tree_s(height: int) -> None:
    leaves = [leaf_hash(bytes([index])) for index in range(1 << height) if index < 256]
    assert subtree_root(b"".join(leaves)) == Frontier().extend(leaves).root()


@pytest.mark.parametrize(
    ("level", "index", "width"), [(64, 0, 1), (-1, 0, 1), (0, -1, 1), (0, 0, 0), (0, 0, 257)]
)
def test_there_is_no_such_tile(level: int, index: int, width: int) -> None:
    with pytest.raises(BadInput):
        Tile(level=level, index=index, width=width)
