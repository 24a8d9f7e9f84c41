"""The witness: one history, through death and deceit."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from ostiary.errors import Forbidden
from ostiary.keyholder.protocol import CatchUp, Resume
from ostiary.keyholder.witness import Mark, Witness
from ostiary.ledger.checkpoint import KeyType, open_note, verifier_key
from ostiary.ledger.tree import Frontier, leaf_hash

ORIGIN = "shop.example/ca"
KEY = Ed25519PrivateKey.from_private_bytes(b"\x07" * 32)


class MemoryHighWater:
    """A mark that outlives its keyholder."""

    def __init__(self) -> None:
        self.mark: Mark | None = None

    def load(self) -> Mark | None:
        return self.mark

    def store(self, mark: Mark) -> None:
        self.mark = mark


def leaves(first: int, count: int, fork: str = "") -> bytes:
    return b"".join(leaf_hash(f"{fork}{i}".encode()) for i in range(first, first + count))


def frontier(count: int, fork: str = "") -> Frontier:
    return Frontier().extend(leaf_hash(f"{fork}{i}".encode()) for i in range(count))


def resume_at(count: int, note: bytes, fork: str = "") -> Resume:
    tree = frontier(count, fork)
    return Resume(note=note, size=tree.size, peaks=b"".join(tree.peaks))


def started(high_water: MemoryHighWater) -> Witness:
    witness = Witness(origin=ORIGIN, key=KEY, high_water=high_water)
    witness.resume(Resume(note=b"", size=0, peaks=b""))
    return witness


def resumed_behind_its_mark() -> Witness:
    """A restarted witness that signed 8 leaves and was shown the checkpoint of 5."""
    high_water = MemoryHighWater()
    first = started(high_water)
    old_note = first.append(0, leaves(0, 5))
    first.append(5, leaves(5, 3))
    again = Witness(origin=ORIGIN, key=KEY, high_water=high_water)
    again.resume(resume_at(5, old_note))
    return again


@given(st.lists(st.integers(min_value=1, max_value=40), min_size=1, max_size=6))
def test_every_note_is_of_the_tree_of_all_leaves_so_far(batches: list[int]) -> None:
    witness = started(MemoryHighWater())
    size = 0
    for batch in batches:
        note = witness.append(size, leaves(size, batch))
        size += batch
        checkpoint = open_note(note, [verifier_key(ORIGIN, KEY, KeyType.LOG)])
        assert (checkpoint.origin, checkpoint.size, checkpoint.root) == (ORIGIN, size, frontier(size).root())


def test_a_restarted_witness_goes_on_from_its_own_checkpoint() -> None:
    high_water = MemoryHighWater()
    note = started(high_water).append(0, leaves(0, 5))
    again = Witness(origin=ORIGIN, key=KEY, high_water=high_water)
    again.resume(resume_at(5, note))
    assert again.append(5, leaves(5, 2))
    assert again.size == 7


def test_a_stored_checkpoint_that_lags_is_caught_up_through_the_mark() -> None:
    again = resumed_behind_its_mark()
    assert again.state().must_pass == 8
    again.catch_up(CatchUp(first=5, leaf_hashes=leaves(5, 3)))
    again.catch_up(CatchUp(first=8, leaf_hashes=leaves(8, 4)))
    assert again.append(12, leaves(12, 1))


def test_a_stored_checkpoint_beyond_a_mark_that_a_power_cut_set_back_counts_in_its_place() -> None:
    high_water = MemoryHighWater()
    first = started(high_water)
    first.append(0, leaves(0, 5))
    older = high_water.mark
    note = first.append(5, leaves(5, 3))
    high_water.mark = older
    again = Witness(origin=ORIGIN, key=KEY, high_water=high_water)
    again.resume(resume_at(8, note))
    assert again.append(8, leaves(8, 1))
    assert high_water.mark == Mark(size=9, root=frontier(9).root())


def test_a_checkpoint_without_a_mark_beside_it_is_not_resumed() -> None:
    note = started(MemoryHighWater()).append(0, leaves(0, 5))
    with pytest.raises(Forbidden) as caught:
        Witness(origin=ORIGIN, key=KEY, high_water=MemoryHighWater()).resume(resume_at(5, note))
    assert caught.value.rule == "witness-high-water"


def test_another_history_up_to_the_mark_is_a_fork() -> None:
    again = resumed_behind_its_mark()
    with pytest.raises(Forbidden) as caught:
        again.catch_up(CatchUp(first=5, leaf_hashes=leaves(5, 3, fork="x")))
    assert caught.value.rule == "witness-fork"


def test_an_old_checkpoint_cannot_be_signed_over() -> None:
    again = resumed_behind_its_mark()
    with pytest.raises(Forbidden) as caught:
        again.append(5, leaves(5, 1))
    assert caught.value.rule == "witness-high-water"


def test_leaves_may_not_jump_over_the_mark() -> None:
    again = resumed_behind_its_mark()
    with pytest.raises(Forbidden) as caught:
        again.catch_up(CatchUp(first=5, leaf_hashes=leaves(5, 4)))
    assert caught.value.rule == "witness-high-water"


def test_an_empty_start_is_refused_once_something_was_signed() -> None:
    high_water = MemoryHighWater()
    started(high_water).append(0, leaves(0, 5))
    again = started(high_water)
    with pytest.raises(Forbidden):
        again.append(0, leaves(0, 1))


def test_a_note_of_another_key_is_not_resumed() -> None:
    high_water = MemoryHighWater()
    other = Witness(origin=ORIGIN, key=Ed25519PrivateKey.generate(), high_water=MemoryHighWater())
    other.resume(Resume(note=b"", size=0, peaks=b""))
    note = other.append(0, leaves(0, 5))
    high_water.mark = Mark(size=5, root=frontier(5).root())
    with pytest.raises(Forbidden) as caught:
        Witness(origin=ORIGIN, key=KEY, high_water=high_water).resume(resume_at(5, note))
    assert caught.value.rule == "witness-resume-root"


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda _: b"", id="no note"),
        pytest.param(lambda note: note + note.rpartition(b"\n\n")[2], id="the signature twice"),
        pytest.param(lambda note: note.replace(b"\n5\n", b"\n05\n"), id="another spelling of the size"),
        pytest.param(lambda note: note.replace(b"shop.example/ca", b"shop.example/cb"), id="another log"),
        pytest.param(lambda note: note[:-3] + b"x" + note[-2:], id="a changed signature"),
    ],
)
def test_only_the_very_note_that_was_signed_is_resumed(change: Callable[[bytes], bytes]) -> None:
    high_water = MemoryHighWater()
    note = started(high_water).append(0, leaves(0, 5))
    with pytest.raises(Forbidden) as caught:
        Witness(origin=ORIGIN, key=KEY, high_water=high_water).resume(resume_at(5, change(note)))
    assert caught.value.rule == "witness-resume-root"


def test_peaks_of_another_tree_are_not_resumed() -> None:
    high_water = MemoryHighWater()
    note = started(high_water).append(0, leaves(0, 5))
    with pytest.raises(Forbidden) as caught:
        Witness(origin=ORIGIN, key=KEY, high_water=high_water).resume(resume_at(5, note, fork="x"))
    assert caught.value.rule == "witness-resume-root"


def test_leaves_out_of_order_are_refused() -> None:
    witness = started(MemoryHighWater())
    witness.append(0, leaves(0, 5))
    for first in (4, 6):
        with pytest.raises(Forbidden) as caught:
            witness.append(first, leaves(first, 1))
        assert caught.value.rule == "witness-order"
