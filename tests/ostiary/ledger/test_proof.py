"""Proofs: Certificate Transparency's published ones, then that any true proof holds and no changed
one does.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ostiary.errors import BadInput
from ostiary.ledger import proof
from ostiary.ledger.errors import NotProven
from ostiary.ledger.memory import MemoryLog
from ostiary.ledger.proof import (
    build_consistency_proof,
    build_inclusion_proof,
    check_consistency,
    check_inclusion,
    read_frontier,
)
from ostiary.ledger.tiles import subtree_root
from ostiary.ledger.tree import EMPTY_ROOT, HASH_BYTES, Frontier, leaf_hash, leaf_hashes

VECTORS = json.loads((Path(__file__).parent / "vectors" / "rfc6962.json").read_text())
REFERENCE = MemoryLog(bytes.fromhex(leaf) for leaf in VECTORS["leaves"])
ROOTS = [bytes.fromhex(root) for root in VECTORS["roots"]]
LOG = MemoryLog(index.to_bytes(4, "big") for index in range(70_000))
SIZES = st.integers(1, 1200) | st.integers(65_000, 70_000) | st.sampled_from([256, 512, 65_536, 65_537])


def root_of(size: int) -> bytes:
    return read_frontier(LOG, size).root()


@pytest.mark.parametrize("case", VECTORS["inclusion"], ids=lambda case: f"{case['index']} in {case['size']}")
def test_published_inclusion_proofs(case: dict[str, Any]) -> None:
    path = build_inclusion_proof(REFERENCE, index=case["index"], size=case["size"])
    assert [node.hex() for node in path] == case["path"]
    leaf = leaf_hash(REFERENCE.entries[case["index"]])
    check_inclusion(leaf=leaf, index=case["index"], size=case["size"], path=path, root=ROOTS[case["size"]])


@pytest.mark.parametrize(
    "case", VECTORS["consistency"], ids=lambda case: f"{case['old_size']} to {case['new_size']}"
)
def test_published_consistency_proofs(case: dict[str, Any]) -> None:
    old_size, new_size = case["old_size"], case["new_size"]
    path = build_consistency_proof(REFERENCE, old_size=old_size, new_size=new_size)
    assert [node.hex() for node in path] == case["path"]
    check_consistency(
        old_size=old_size, old_root=ROOTS[old_size], new_size=new_size, new_root=ROOTS[new_size], path=path
    )


@settings(max_examples=60, deadline=None)
@given(SIZES)
def test_the_frontier_of_any_earlier_tree_can_be_read(size: int) -> None:
    assert read_frontier(LOG, size) == Frontier().extend(leaf_hashes(LOG.entries[:size]))


@settings(max_examples=150, deadline=None)
@given(SIZES, st.data())
def test_any_inclusion_proof_holds_and_no_changed_one(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    path = build_inclusion_proof(LOG, index=index, size=size)
    leaf, root = leaf_hash(LOG.entries[index]), root_of(size)
    assert len(path) <= (size - 1).bit_length()
    check_inclusion(leaf=leaf, index=index, size=size, path=path, root=root)
    parts = [leaf, root, *path]
    position, bit = data.draw(st.integers(0, len(parts) - 1)), data.draw(st.integers(0, 255))
    changed = bytearray(parts[position])
    changed[bit // 8] ^= 1 << bit % 8
    parts[position] = bytes(changed)
    with pytest.raises(NotProven):
        check_inclusion(leaf=parts[0], index=index, size=size, path=parts[2:], root=parts[1])
    other = data.draw(st.integers(0, size + 1).filter(lambda each: each != index))
    with pytest.raises(NotProven):
        check_inclusion(leaf=leaf, index=other, size=size, path=path, root=root)


@settings(max_examples=150, deadline=None)
@given(SIZES, SIZES, st.data())
def test_any_consistency_proof_holds_and_no_changed_one(one: int, two: int, data: st.DataObject) -> None:
    old_size, new_size = sorted((one, two))
    path = build_consistency_proof(LOG, old_size=old_size, new_size=new_size)
    parts = [root_of(old_size), root_of(new_size), *path]
    check_consistency(
        old_size=old_size, old_root=parts[0], new_size=new_size, new_root=parts[1], path=parts[2:]
    )
    position, bit = data.draw(st.integers(0, len(parts) - 1)), data.draw(st.integers(0, 255))
    changed = bytearray(parts[position])
    changed[bit // 8] ^= 1 << bit % 8
    parts[position] = bytes(changed)
    with pytest.raises(NotProven):
        check_consistency(
            old_size=old_size, old_root=parts[0], new_size=new_size, new_root=parts[1], path=parts[2:]
        )


def test_every_pair_of_small_sizes() -> None:
    for new_size in range(1, 40):
        for old_size in range(new_size + 1):
            path = build_consistency_proof(LOG, old_size=old_size, new_size=new_size)
            old_root, new_root = root_of(old_size), root_of(new_size)
            check_consistency(
                old_size=old_size, old_root=old_root, new_size=new_size, new_root=new_root, path=path
            )
        for index in range(new_size):
            path = build_inclusion_proof(LOG, index=index, size=new_size)
            check_inclusion(
                leaf=leaf_hash(LOG.entries[index]),
                index=index,
                size=new_size,
                path=path,
                root=root_of(new_size),
            )


SOME = bytes.fromhex("abacaba000000000000000000000000000000000000000000060061e00123456")


@pytest.mark.parametrize(
    "case", VECTORS["inclusion"][1:], ids=lambda case: f"{case['index']} in {case['size']}"
)
def test_the_reference_s_corruptions_of_inclusion_proofs(case: dict[str, Any]) -> None:
    """Each differs in one respect; the list is that of transparency-dev/merkle."""
    index, size, root = case["index"], case["size"], ROOTS[case["size"]]
    path = [bytes.fromhex(node) for node in case["path"]]
    leaf = leaf_hash(REFERENCE.entries[index])
    for at, of, start, end, nodes in [
        (index - 1, size, leaf, root, path),
        (index + 1, size, leaf, root, path),
        (index ^ 2, size, leaf, root, path),
        (index, size * 2, leaf, root, path),
        (index, size // 2, leaf, root, path),
        (index, size, b"WrongLeaf", root, path),
        (index, size, leaf, EMPTY_ROOT, path),
        (index, size, leaf, SOME, path),
        (index, size, leaf, root, [*path, b""]),
        (index, size, leaf, root, [*path, root]),
        (index, size, leaf, root, [b"", *path]),
        (index, size, leaf, root, [root, *path]),
        (index, size, leaf, root, path[:-1]),
        (index, size, leaf, root, [path[0], SOME, *path[1:]]),
    ]:
        with pytest.raises(NotProven):
            check_inclusion(leaf=start, index=at, size=of, path=nodes, root=end)


@pytest.mark.parametrize(
    "case", VECTORS["consistency"][1:], ids=lambda case: f"{case['old_size']} to {case['new_size']}"
)
def test_the_reference_s_corruptions_of_consistency_proofs(case: dict[str, Any]) -> None:
    """Each differs in one respect; the list is that of transparency-dev/merkle."""
    old, new = case["old_size"], case["new_size"]
    first, second = ROOTS[old], ROOTS[new]
    path = [bytes.fromhex(node) for node in case["path"]]
    for old_size, new_size, old_root, new_root, nodes in [
        (old - 1, new, first, second, path),
        (old + 1, new, first, second, path),
        (old ^ 2, new, first, second, path),
        (old, new * 2, first, second, path),
        (old, new // 2, first, second, path),
        (old, new, b"WrongRoot", second, path),
        (old, new, first, b"WrongRoot", path),
        (old, new, second, first, path),
        (old, new, first, second, []),
        (old, new, first, second, [*path, b""]),
        (old, new, first, second, [*path, first]),
        (old, new, first, second, [*path, second]),
        (old, new, first, second, [b"", *path]),
        (old, new, first, second, [first, *path]),
        (old, new, first, second, [second, *path]),
        (old, new, first, second, [path[0], *path]),
        (old, new, first, second, path[:-1]),
    ]:
        with pytest.raises(NotProven):
            check_consistency(
                old_size=old_size, old_root=old_root, new_size=new_size, new_root=new_root, path=nodes
            )


@pytest.mark.parametrize(
    ("old_size", "new_size", "old_root", "new_root", "path"),
    [
        (1, 1, SOME, ROOTS[1], []),
        (1, 1, ROOTS[1], ROOTS[1], [SOME]),
        (0, 1, SOME, ROOTS[1], []),
        (0, 1, EMPTY_ROOT, ROOTS[1], [SOME]),
        (0, 0, EMPTY_ROOT, SOME, []),
        (2, 1, ROOTS[2], ROOTS[1], []),
        (3, 4, ROOTS[3], ROOTS[4], []),
        (3, 4, ROOTS[3], ROOTS[4], [SOME] * 65),
        (-1, 4, ROOTS[3], ROOTS[4], []),
    ],
)
def test_trivial_consistency_that_does_not_hold(
    old_size: int, new_size: int, old_root: bytes, new_root: bytes, path: list[bytes]
) -> None:
    with pytest.raises(NotProven):
        check_consistency(
            old_size=old_size, old_root=old_root, new_size=new_size, new_root=new_root, path=path
        )


@pytest.mark.parametrize(("index", "size"), [(-1, 1), (0, 0), (5, 5), (0, 2**63)])
def test_no_proof_is_built_for_what_is_not_there(index: int, size: int) -> None:
    with pytest.raises(BadInput, match="no entry"):
        build_inclusion_proof(LOG, index=index, size=size)


@pytest.mark.parametrize(("old_size", "new_size"), [(2, 1), (-1, 1), (1, 2**63)])
def test_no_proof_is_built_backwards(old_size: int, new_size: int) -> None:
    with pytest.raises(BadInput, match="does not come before"):
        build_consistency_proof(LOG, old_size=old_size, new_size=new_size)


def test_a_proof_reads_at_most_two_tiles_on_each_level() -> None:
    asked: list[tuple[int, int]] = []

    class Spy:
        def tile(self, level: int, index: int, width: int) -> bytes:
            asked.append((level, index))
            return LOG.tile(level, index, width)

    for index in (0, 255, 256, 32_767, 65_535, 65_536, 69_999):
        asked.clear()
        build_inclusion_proof(Spy(), index=index, size=70_000)
        assert len(asked) == len(set(asked)) <= 6


def test_what_a_proof_costs_is_bounded_by_the_tiles_it_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Count hashes, not time: at most 255 for each of two tiles on each level, and a few to join them."""
    counted = 0

    def count(hashes: bytes) -> bytes:
        nonlocal counted
        counted += len(hashes) // HASH_BYTES - 1  # the inner nodes of a subtree with that many leaves
        return subtree_root(hashes)

    monkeypatch.setattr(proof, "subtree_root", count)
    for at in (1, 255, 256, 257, 32_767, 65_535, 65_537, 69_999):
        counted = 0
        build_inclusion_proof(LOG, index=at, size=70_000)
        assert 0 < counted <= 3 * 2 * 255
        counted = 0
        build_consistency_proof(LOG, old_size=at, new_size=70_000)
        assert 0 < counted <= 3 * 2 * 255
