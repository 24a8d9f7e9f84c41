"""The Merkle tree of a ledger: leaves, nodes, and the frontier from which it grows.

Rules (RFC 6962 section 2.1, unchanged in RFC 9162 section 2.1.1):
- MTH({}) = SHA-256(); leaf = SHA-256(0x00 || entry); node = SHA-256(0x01 || left || right);
- a tree of n > 1 leaves splits at the largest power of two smaller than n.

A frontier is the list of the complete subtrees that make up a tree, the largest first: one for each bit that
is set in the size, so never more than 63. It is all that appending, and knowing the root, need. It does not
know single leaves: proofs need tiles.

    size 7 = 4 + 2 + 1:   peaks  MTH(D[0:4])  MTH(D[4:6])  MTH(D[6:7])
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256

from ostiary.errors import BadInput

__all__ = ["EMPTY_ROOT", "HASH_BYTES", "MAX_SIZE", "Frontier", "leaf_hash", "leaf_hashes"]

HASH_BYTES = 32
MAX_SIZE = 2**63 - 1  # what a signed 64-bit column holds; C2SP tlog-tiles has 64 levels
EMPTY_ROOT = sha256(b"").digest()


# 0x00 and 0x01 keep leaves and nodes apart: else an inner node could be passed off as an entry (RFC 6962
# section 2.1, second preimages).
def leaf_hash(entry: bytes) -> bytes:
    """Return the 32-byte hash of one entry as a leaf."""
    return sha256(b"\x00" + entry).digest()


def leaf_hashes(entries: Iterable[bytes]) -> list[bytes]:
    """Return the leaf hash of each entry, in order."""
    return [sha256(b"\x00" + entry).digest() for entry in entries]


@dataclass(frozen=True, slots=True, kw_only=True)
class Frontier:
    """A tree's size and the roots of its complete subtrees, the largest (leftmost) first."""

    size: int = 0
    peaks: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.size <= MAX_SIZE:
            raise BadInput(f"{self.size} is not a tree size; wanted 0 to {MAX_SIZE}", field="size")
        if len(self.peaks) != self.size.bit_count():
            raise BadInput(
                f"a tree of {self.size} leaves has {self.size.bit_count()} peaks, not {len(self.peaks)}",
                field="peaks",
            )
        if any(len(peak) != HASH_BYTES for peak in self.peaks):
            raise BadInput("a peak must be 32 bytes long", field="peaks")

    def extend(self, leaves: Iterable[bytes]) -> Frontier:
        """Return the frontier after these leaf hashes (not entries) are appended; one to two hashes
        a leaf.
        """
        size = self.size
        stack = list(self.peaks)
        for leaf in leaves:
            # A binary counter: adding one to the size carries through its trailing ones, and each carry joins
            # two complete subtrees of the same size into one.
            node = leaf
            bits = size
            while bits & 1:  # each trailing one is a complete subtree as large as what is in hand
                # `node_hash` of ostiary/ledger/proof.py, written out: this is the inner loop of each append.
                node = sha256(b"\x01" + stack.pop() + node).digest()
                bits >>= 1
            stack.append(node)
            size += 1
        return Frontier(size=size, peaks=tuple(stack))

    def root(self) -> bytes:
        """Return the tree's root hash."""
        if not self.peaks:
            return EMPTY_ROOT
        # From the smallest peak leftwards: RFC 6962 splits at the largest power of two, so the rest is the
        # right child each time.
        root = self.peaks[-1]
        for peak in reversed(self.peaks[:-1]):
            root = sha256(b"\x01" + peak + root).digest()
        return root
