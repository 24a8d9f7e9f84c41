"""Proofs: that an entry is in a tree, and that a tree is the beginning of another.

Rules:
- building follows RFC 9162 sections 2.1.3.1 and 2.1.4.1 (the same as RFC 6962 section 2.1), over tiles: an
  inclusion or consistency proof reads at most two tiles on each level;
- checking follows sections 2.1.3.2 and 2.1.4.2 and trusts nothing but the roots it is given;
- a consistency proof from the empty tree is empty, as is one between two equal trees.

A root alone says nothing about a tree's size: sizes and roots come from a checkpoint whose signature was
checked.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from ostiary.errors import BadInput
from ostiary.ledger.errors import NotProven
from ostiary.ledger.tiles import TILE_HEIGHT, TILE_WIDTH, HashReader, subtree_root, tile_width
from ostiary.ledger.tree import EMPTY_ROOT, HASH_BYTES, MAX_SIZE, Frontier

__all__ = [
    "build_consistency_proof",
    "build_inclusion_proof",
    "check_consistency",
    "check_inclusion",
    "node_hash",
    "read_frontier",
]

# A path has a hash for each level of the tree, at most 63; a consistency proof may have one more. More than
# that is refused before anything is hashed.
_MAX_PATH = 64


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of an inner node from its two children's hashes."""
    return sha256(b"\x01" + left + right).digest()


def build_inclusion_proof(hashes: HashReader, *, index: int, size: int) -> tuple[bytes, ...]:
    """Return the hashes from the leaf's sibling up to the root's child; PATH(index, D[0:size])."""
    if not 0 <= index < size <= MAX_SIZE:
        raise BadInput(f"a tree of {size} entries has no entry {index}", field="index")
    nodes = _Nodes(hashes, size)
    path = []
    # From the root down, collecting the half in which the entry is not; the RFC lists them from the leaf up.
    start, end = 0, size
    while end - start > 1:
        split = start + _largest_power_below(end - start)
        if index < split:
            path.append(nodes.over(split, end))
            end = split
        else:
            path.append(nodes.over(start, split))
            start = split
    return tuple(reversed(path))


def build_consistency_proof(hashes: HashReader, *, old_size: int, new_size: int) -> tuple[bytes, ...]:
    """Return the hashes that prove D[0:old_size] a beginning of D[0:new_size]; PROOF(old_size,
    D[0:new_size]).
    """
    if not 0 <= old_size <= new_size <= MAX_SIZE:
        raise BadInput(
            f"a tree of {old_size} entries does not come before one of {new_size}", field="old_size"
        )
    if old_size in {0, new_size}:
        return ()
    nodes = _Nodes(hashes, new_size)
    path = []
    # SUBPROOF of the RFC, without its recursion: down to the range that ends where the old tree ends.
    start, end = 0, new_size
    while end != old_size:
        split = start + _largest_power_below(end - start)
        if old_size <= split:
            path.append(nodes.over(split, end))
            end = split
        else:
            path.append(nodes.over(start, split))
            start = split
    if start:  # else the old tree itself is a node of the new one, and its root is known
        path.append(nodes.over(start, end))
    return tuple(reversed(path))


def read_frontier(hashes: HashReader, size: int) -> Frontier:
    """Read the frontier of a tree, also of an earlier one; the caller compares its root with a
    checkpoint's.
    """
    nodes = _Nodes(hashes, size)
    peaks = []
    start = 0
    for height in reversed(range(size.bit_length())):
        if size >> height & 1:
            peaks.append(nodes.over(start, start + (1 << height)))
            start += 1 << height
    return Frontier(size=size, peaks=tuple(peaks))


def check_inclusion(*, leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> None:
    """Check that the leaf hash stands at `index` in the tree of that size and root; raises NotProven.

    Steps of RFC 9162 section 2.1.3.2, with its names: `fn` and `sn` are the positions, on the way up, of the
    entry and of the tree's last one.
    1. The index lies within the tree.
    2. Start with fn = index, sn = size - 1.
    3. The hash in hand is the leaf's (the RFC's r).
    4. For each hash of the path: too long where sn is 0; a left sibling where fn is odd, or fn is sn; else a
       right one; then one level up.
    5. All levels were climbed, and the hash in hand is the root.
    """
    # 1.
    if not 0 <= index < size <= MAX_SIZE:
        raise NotProven(f"a tree of {size} entries has no entry {index}", field="index")
    _check_hashes(leaf, root, *path)
    # 2. and 3.
    fn, sn, node = index, size - 1, leaf
    # 4.
    for sibling in path:
        if sn == 0:
            raise NotProven("the inclusion proof is too long for the tree")
        if fn & 1 or fn == sn:
            node = node_hash(sibling, node)
            fn, sn = _skip_lone_levels(fn, sn)
        else:
            node = node_hash(node, sibling)
        fn >>= 1
        sn >>= 1
    # 5.
    if sn:
        raise NotProven("the inclusion proof is too short for the tree")
    if node != root:
        raise NotProven(f"the inclusion proof of entry {index} leads to another root")


def check_consistency(
    *, old_size: int, old_root: bytes, new_size: int, new_root: bytes, path: Sequence[bytes]
) -> None:
    """Check that the new tree begins with the old one; raises NotProven.

    Steps of RFC 9162 section 2.1.4.2, with its names:
    1. A path that must be empty is, and the roots agree with that.
    2. Where the old size is a power of two, the old root is put before the path: it is itself a node of the
       new tree.
    3. to 6. Climb with both roots in hand (`_follow`).
    7. They must be the old and the new root.
    """
    if not 0 <= old_size <= new_size <= MAX_SIZE:
        raise NotProven(
            f"a tree of {old_size} entries does not come before one of {new_size}", field="old_size"
        )
    _check_hashes(old_root, new_root, *path)
    # 1.
    if old_size in {0, new_size}:
        _check_trivial(old_size, old_root, new_size, new_root, path)
        return
    # 2.
    steps = list(path)
    if old_size & (old_size - 1) == 0:
        steps.insert(0, old_root)
    if not steps:
        raise NotProven("the consistency proof is empty")
    # 3. to 7.
    if _follow(steps, old_size - 1, new_size - 1) != (old_root, new_root):
        raise NotProven(f"the tree of {new_size} entries is not shown to begin with that of {old_size}")


def _follow(steps: Sequence[bytes], fn: int, sn: int) -> tuple[bytes, bytes]:
    """Return the old and the new root to which a consistency proof leads."""
    # 3. and 4. Skip the levels on which the old tree's last node is a right child: they are complete.
    while fn & 1:
        fn >>= 1
        sn >>= 1
    # 5.
    old_node = new_node = steps[0]
    # 6.
    for step in steps[1:]:
        if sn == 0:
            raise NotProven("the consistency proof is too long for the trees")
        if fn & 1 or fn == sn:
            old_node = node_hash(step, old_node)
            new_node = node_hash(step, new_node)
            fn, sn = _skip_lone_levels(fn, sn)
        else:
            new_node = node_hash(new_node, step)
        fn >>= 1
        sn >>= 1
    if sn:
        raise NotProven("the consistency proof is too short for the trees")
    return old_node, new_node


def _check_trivial(
    old_size: int, old_root: bytes, new_size: int, new_root: bytes, path: Sequence[bytes]
) -> None:
    if path:
        raise NotProven("a consistency proof from the empty tree, or to the same tree, is empty")
    if old_size == new_size and old_root != new_root:
        raise NotProven(f"two trees of {new_size} entries have different roots: the log was forked")
    if old_size == 0 and old_root != EMPTY_ROOT:
        raise NotProven("the empty tree has another root")


def _skip_lone_levels(fn: int, sn: int) -> tuple[int, int]:
    """Go up the levels on which the node has no sibling: at the right edge, where the size is no power of
    two.
    """
    while fn and not fn & 1:
        fn >>= 1
        sn >>= 1
    return fn, sn


def _check_hashes(*hashes: bytes) -> None:
    if len(hashes) > _MAX_PATH + 2:
        raise NotProven(f"a proof has at most {_MAX_PATH} hashes", field="path")
    if any(len(each) != HASH_BYTES for each in hashes):
        raise NotProven("a hash of the proof is not 32 bytes long", field="path")


def _largest_power_below(count: int) -> int:
    return 1 << (count - 1).bit_length() - 1


class _Nodes:
    """The tree's nodes, computed from tiles; each tile is read once."""

    def __init__(self, hashes: HashReader, size: int) -> None:
        self._hashes = hashes
        self._size = size
        self._tiles: dict[tuple[int, int], bytes] = {}

    def over(self, start: int, end: int) -> bytes:
        """Return MTH(D[start:end]), where `start` is a multiple of the smallest power of two that is not less
        than the count.

        Every range that a proof splits off is such a one. Complete subtrees are read from tiles; a ragged
        right end is folded from them.
        """
        count = end - start
        if count & (count - 1) == 0:
            return self._complete(count.bit_length() - 1, start)
        left = _largest_power_below(count)
        return node_hash(self._complete(left.bit_length() - 1, start), self.over(start + left, end))

    def _complete(self, height: int, start: int) -> bytes:
        """Return the root of the complete subtree of 2**height leaves at `start`, which lies within
        one tile.
        """
        level, rise = divmod(height, TILE_HEIGHT)
        index, offset = divmod(start >> TILE_HEIGHT * level, TILE_WIDTH)
        hashes = self._tile(level, index)
        return subtree_root(hashes[offset * HASH_BYTES : (offset + (1 << rise)) * HASH_BYTES])

    def _tile(self, level: int, index: int) -> bytes:
        hashes = self._tiles.get((level, index))
        if hashes is None:
            hashes = self._hashes.tile(level, index, tile_width(level, index, self._size))
            self._tiles[level, index] = hashes
        return hashes
