"""The tree: Certificate Transparency's reference vectors, then the frontier against the RFC's own
recursion.
"""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary.errors import BadInput
from ostiary.ledger.proof import node_hash
from ostiary.ledger.tree import EMPTY_ROOT, Frontier, leaf_hash, leaf_hashes

VECTORS = json.loads((Path(__file__).parent / "vectors" / "rfc6962.json").read_text())
LEAVES = [bytes.fromhex(leaf) for leaf in VECTORS["leaves"]]


def mth(hashes: list[bytes]) -> bytes:
    """Compute the root by the definition of RFC 6962 section 2.1, slowly."""
    if not hashes:
        return sha256(b"").digest()
    if len(hashes) == 1:
        return hashes[0]
    split = 1 << (len(hashes) - 1).bit_length() - 1
    return node_hash(mth(hashes[:split]), mth(hashes[split:]))


def some_hashes(count: int) -> list[bytes]:
    return [leaf_hash(index.to_bytes(4, "big")) for index in range(count)]


@pytest.mark.parametrize("size", range(9))
def test_published_roots(size: int) -> None:
    assert Frontier().extend(leaf_hashes(LEAVES[:size])).root().hex() == VECTORS["roots"][size]


def test_the_empty_tree() -> None:
    assert Frontier().root() == EMPTY_ROOT
    assert Frontier().extend([]) == Frontier()


@given(st.integers(0, 700), st.integers(0, 700))
def test_extending_in_two_steps_gives_the_root_of_the_definition(first: int, second: int) -> None:
    hashes = some_hashes(first + second)
    frontier = Frontier().extend(hashes[:first]).extend(hashes[first:])
    assert frontier.size == first + second
    assert frontier.root() == mth(hashes)
    assert frontier == Frontier().extend(hashes)


@pytest.mark.parametrize(
    ("size", "peaks"), [(-1, ()), (3, (bytes(32),)), (1, (bytes(31),)), (0, (bytes(32),))]
)
def test_a_frontier_checks_itself(size: int, peaks: tuple[bytes, ...]) -> None:
    with pytest.raises(BadInput):
        Frontier(size=size, peaks=peaks)


def test_a_leaf_is_never_a_node() -> None:
    left, right = some_hashes(2)
    assert leaf_hash(left + right) != node_hash(left, right)
