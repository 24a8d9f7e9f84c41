"""A ledger in memory: what it keeps, a reader of a store would find."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary.errors import NotFound
from ostiary.ledger.memory import MemoryLog
from ostiary.ledger.proof import build_inclusion_proof, check_inclusion
from ostiary.ledger.tiles import TILE_WIDTH, decode_bundle
from ostiary.ledger.tree import Frontier, leaf_hash, leaf_hashes


def entries(count: int) -> list[bytes]:
    return [b"%d" % number for number in range(count)]


@given(st.lists(st.integers(0, 300), max_size=4))
def test_however_it_grew_it_is_the_same_log(batches: list[int]) -> None:
    log, all_at_once = MemoryLog(), entries(sum(batches))
    for batch in batches:
        log.append(all_at_once[log.size : log.size + batch])
    assert log.frontier == Frontier().extend(leaf_hashes(all_at_once))
    assert log.rows.keys() >= {(0, index) for index in range(log.size // TILE_WIDTH)}


def test_each_entry_is_proven_from_its_tiles() -> None:
    log = MemoryLog(entries(600))
    for index in (0, 255, 256, 511, 512, 599):
        path = build_inclusion_proof(log, index=index, size=600)
        check_inclusion(
            leaf=leaf_hash(b"%d" % index), index=index, size=600, path=path, root=log.frontier.root()
        )


def test_bundles_hold_the_entries_and_end_where_the_log_ends() -> None:
    log = MemoryLog(entries(300))
    assert decode_bundle(log.bundle(0, 256), width=256) == entries(256)
    assert decode_bundle(log.bundle(1, 44), width=44) == entries(300)[256:]
    with pytest.raises(NotFound):
        log.bundle(1, 45)


@pytest.mark.parametrize(("level", "index", "width"), [(0, 1, 45), (0, 2, 1), (1, 0, 2), (2, 0, 1)])
def test_a_tile_beyond_the_log_is_not_found(level: int, index: int, width: int) -> None:
    with pytest.raises(NotFound):
        MemoryLog(entries(300)).tile(level, index, width)
