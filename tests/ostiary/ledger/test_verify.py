"""Full verification: true logs pass from any start; each kind of tampering is found where it can be."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ostiary.errors import NotFound
from ostiary.ledger.checkpoint import Checkpoint
from ostiary.ledger.errors import NotProven
from ostiary.ledger.memory import MemoryLog
from ostiary.ledger.proof import read_frontier
from ostiary.ledger.tiles import subtree_root
from ostiary.ledger.tree import leaf_hash
from ostiary.ledger.verify import Since, verify_log

ORIGIN = "shop.example/ca"
ENTRIES = [b'{"act":"%064x"}' % number for number in range(1500)]
LOG = MemoryLog(ENTRIES)


def checkpoint(size: int, log: MemoryLog = LOG) -> Checkpoint:
    frontier = read_frontier(log, size)
    return Checkpoint(origin=ORIGIN, size=size, root=frontier.root())


def fault(
    entries: list[bytes],
    signed: Checkpoint,
    *,
    since: Since | None = None,
    hashes: MemoryLog | None = None,
    waypoints: tuple[Checkpoint, ...] = (),
) -> NotProven:
    with pytest.raises(NotProven) as caught:
        verify_log(entries, signed, since=since, hashes=hashes, waypoints=waypoints)
    return caught.value


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1500), st.integers(0, 1500), st.booleans())
def test_a_true_log_passes_from_any_start(one: int, two: int, with_hashes: bool) -> None:
    start, end = sorted((one, two))
    since = Since.read(checkpoint(start), LOG)
    hashes = LOG if with_hashes else None
    waypoints = [checkpoint(size) for size in (900, 300, end)]
    frontier = verify_log(ENTRIES[start:], checkpoint(end), since=since, hashes=hashes, waypoints=waypoints)
    assert frontier == read_frontier(LOG, end)
    assert verify_log(ENTRIES, checkpoint(end), since=None, hashes=hashes, waypoints=[]) == frontier


def test_what_it_returns_is_where_to_start_next_time() -> None:
    first = verify_log(ENTRIES[:700], checkpoint(700), since=None, hashes=None, waypoints=[])
    since = Since(checkpoint=checkpoint(700), frontier=first)
    assert verify_log(ENTRIES[700:], checkpoint(1500), since=since, hashes=None, waypoints=[]) == LOG.frontier


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1499), st.integers(0, 1499))
def test_a_changed_entry_is_named_by_its_index(changed: int, start: int) -> None:
    entries = list(ENTRIES)
    entries[changed] = entries[changed].replace(b"0", b"1", 1)
    found = fault(entries, checkpoint(1500), hashes=LOG)
    assert (found.first_index, found.last_index) == (changed, changed)
    assert fault(entries, checkpoint(1500)).last_index == 1499
    if start <= changed:
        since = Since.read(checkpoint(start), LOG)
        found = fault(entries[start:], checkpoint(1500), since=since, hashes=LOG)
        assert found.first_index == changed


@pytest.mark.parametrize("at", [0, 256, 700, 1499])
def test_a_removed_entry_is_named_by_its_index(at: int) -> None:
    found = fault(ENTRIES[:at] + ENTRIES[at + 1 :], checkpoint(1500), hashes=LOG)
    assert found.first_index == at


def test_swapped_entries_are_named_by_the_first() -> None:
    entries = list(ENTRIES)
    entries[400], entries[900] = entries[900], entries[400]
    assert fault(entries, checkpoint(1500), hashes=LOG).first_index == 400


@pytest.mark.parametrize("hashes", [None, LOG])
def test_a_log_that_ends_too_early(hashes: MemoryLog | None) -> None:
    found = fault(ENTRIES[:1400], checkpoint(1500), hashes=hashes)
    assert (found.first_index, found.last_index) == (1400, 1499)


def test_waypoints_narrow_a_fault_without_stored_hashes() -> None:
    entries = list(ENTRIES)
    entries[777] = b"{}"
    found = fault(entries, checkpoint(1500), waypoints=(checkpoint(1000), checkpoint(500), checkpoint(750)))
    assert (found.first_index, found.last_index) == (750, 999)


def test_an_entry_rewritten_with_its_tile_is_found_by_the_level_above() -> None:
    log = MemoryLog(ENTRIES)
    log.entries[600] = b"{}"
    tile = bytearray(log.rows[0, 2])
    tile[88 * 32 : 89 * 32] = leaf_hash(b"{}")
    log.rows[0, 2] = bytes(tile)
    found = fault(log.entries, checkpoint(1500), hashes=log)
    assert (found.first_index, found.last_index) == (512, 767)


def test_a_log_rewritten_throughout_is_found_by_the_root_and_narrowed_by_waypoints() -> None:
    forged = MemoryLog([*ENTRIES[:600], b"{}", *ENTRIES[601:]])
    found = fault(
        forged.entries, checkpoint(1500), hashes=forged, waypoints=(checkpoint(590), checkpoint(610))
    )
    assert (found.first_index, found.last_index) == (590, 609)
    found = fault(forged.entries, checkpoint(1500), hashes=forged)
    assert (found.first_index, found.last_index) == (0, 1499)


def test_a_damaged_tile_is_told_from_a_changed_entry() -> None:
    log = MemoryLog(ENTRIES)
    tile = bytearray(log.rows[0, 2])
    tile[88 * 32] ^= 1
    log.rows[0, 2] = bytes(tile)
    found = fault(log.entries, checkpoint(1500), hashes=log)
    assert found.first_index == 600
    assert found.message == "all entries are right, but the hashes stored from entry 600 on are damaged"


def test_a_missing_tile_is_damage_too() -> None:
    class Holed(MemoryLog):
        def tile(self, level: int, index: int, width: int) -> bytes:
            if (level, index) == (0, 3):
                raise NotFound("gone")
            return super().tile(level, index, width)

    found = fault(ENTRIES, checkpoint(1500), hashes=Holed(ENTRIES))
    assert found.first_index == 768
    with pytest.raises(NotProven, match="no tiles"):
        Since.read(checkpoint(800), Holed(ENTRIES))


def test_damage_to_tiles_does_not_hide_a_changed_entry() -> None:
    log = MemoryLog(ENTRIES)
    tile = bytearray(log.rows[0, 1])
    tile[0] ^= 1
    log.rows[0, 1] = bytes(tile)
    log.entries[1000] = b"{}"
    found = fault(log.entries, checkpoint(1500), hashes=log)
    assert (found.first_index, found.last_index) == (0, 1499)


def test_history_before_since_cannot_be_rewritten() -> None:
    forged = MemoryLog([*ENTRIES[:600], b"{}", *ENTRIES[601:]])
    with pytest.raises(NotProven, match="no longer has the tree of 700"):
        Since.read(checkpoint(700), forged)
    signed_again = checkpoint(1500, forged)
    honest = Since.read(checkpoint(700), LOG)
    assert fault(forged.entries[700:], signed_again, since=honest).first_index == 700


def test_a_log_does_not_shrink() -> None:
    since = Since.read(checkpoint(700), LOG)
    assert "shrank from 700 to 600" in fault([], checkpoint(600), since=since).message


def test_checkpoints_of_another_log_are_refused() -> None:
    other = dataclasses.replace(checkpoint(700), origin="shop.example/credentials")
    assert "a log other than" in fault(ENTRIES, checkpoint(1500), waypoints=(other,)).message
    since = Since.read(other, LOG)
    assert "a log other than" in fault(ENTRIES[700:], checkpoint(1500), since=since).message


def test_the_empty_log() -> None:
    assert verify_log([], checkpoint(0), since=None, hashes=MemoryLog(), waypoints=[]).size == 0


def test_entries_after_the_checkpoint_are_not_read() -> None:
    source = iter(ENTRIES)
    verify_log(source, checkpoint(1000), since=None, hashes=None, waypoints=[])
    assert next(source) == ENTRIES[1000]


def test_the_stored_tiles_used_here_are_right() -> None:
    assert subtree_root(LOG.rows[0, 2]) == LOG.rows[1, 0][64:96]
