"""The keyholder's own view of the ledger: the frontier of the tree, and the promise never to sign two
histories.

Rules:
- Leaves are only appended; every signed tree extends the one signed before it.
- A keyholder that starts anew believes only its own signature (`resume`) and its high-water mark: the size
  and root of the newest tree it ever signed. It signs nothing before its frontier has passed through exactly
  that tree, so a recorder that shows it an old or another history is found out.
- The mark is stored before a note leaves (`HighWater.store`). Only a power cut can set it back behind a
  checkpoint that was stored: then that one is the newest tree signed.

Plan of a recovery (docs/adr/0009):
1. `resume` with the last checkpoint that the store has, and that tree's peaks.
2. `catch_up` with the leaves recorded since. They must stop exactly at the mark, once, so that:
3. the root is compared at the mark; another root there is a fork, and the end of this frontier.
4. From then on `append` signs.

Left to others: which entries may be there at all, and who reads the notes. RFC 6962 section 2; C2SP
tlog-checkpoint.
"""

from __future__ import annotations

from dataclasses import dataclass
from hmac import compare_digest
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ostiary.errors import Forbidden
from ostiary.keyholder.protocol import CatchUp, Resume, TreeState
from ostiary.ledger.checkpoint_signing import Checkpoint, sign
from ostiary.ledger.tree import HASH_BYTES, Frontier


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """The newest tree that was ever signed."""

    size: int
    root: bytes


class HighWater(Protocol):
    """Keeps the mark. `store` returns once the mark survives the death of this process. It need not survive a
    power cut: the recorder's store is durable before the keyholder sees a leaf, so the mark is never ahead of
    the store. Called by one thread.
    """

    def load(self) -> Mark | None:
        """The newest mark, None before the first."""

    def store(self, mark: Mark) -> None:
        """Replace the mark."""


class Witness:
    """The frontier of one ledger and the key of its checkpoints. Owner: the keyholder's only thread."""

    def __init__(self, *, origin: str, key: Ed25519PrivateKey, high_water: HighWater) -> None:
        self._origin = origin
        self._key = key
        self._high_water = high_water
        self._must_pass = high_water.load()
        self._frontier: Frontier | None = None

    @property
    def size(self) -> int:
        """Leaves in the frontier; 0 while there is none."""
        return self._frontier.size if self._frontier else 0

    def state(self) -> TreeState:
        """What a recorder must know to bring this keyholder up to date."""
        return TreeState(
            origin=self._origin,
            fresh=self._frontier is None,
            size=self.size,
            must_pass=self._must_pass.size if self._must_pass else 0,
        )

    def resume(self, request: Resume) -> None:
        """Go on from a tree whose checkpoint this key signed; Forbidden where it did not, or where the mark
        is missing.

        A checkpoint beyond the mark is newer than the mark: a power cut set the mark back, and the signature
        proves what the mark would have said.
        """
        # 1.
        if self._frontier is not None:
            raise Forbidden("the tree has been resumed already", rule="witness-resume-once")
        if request.size == 0:
            # Nothing to prove: where a mark exists, the empty tree does not pass it, and nothing is signed.
            self._frontier = Frontier()
            return
        frontier = Frontier(size=request.size, peaks=_split(request.peaks))
        # Ed25519 is deterministic (RFC 8032, section 5.1.6): this key's note of that tree is one byte string.
        # Making it again and comparing needs no reader of notes in this process; what is made stays inside.
        if not compare_digest(request.note, self._note_of(_mark_of(frontier))):
            raise Forbidden(
                "the note is not this key's checkpoint of the tree with these peaks",
                rule="witness-resume-root",
            )
        # This key signed, so there was a mark. Without it an older checkpoint could not be told from the
        # newest.
        if self._must_pass is None:
            raise Forbidden("there is a checkpoint but no high-water mark", rule="witness-high-water")
        self._frontier = frontier
        self._pass_mark()

    def catch_up(self, request: CatchUp) -> None:
        """Append leaves that were recorded while the keyholder was away."""
        # 2.
        self._append(request.first, request.leaf_hashes)

    def append(self, first: int, leaf_hashes: bytes) -> bytes:
        """Append a batch's leaves and sign the new tree; return the note. Forbidden before the mark was
        passed.
        """
        # 4. A batch's leaves may lead through the mark, too; nothing is signed before they have.
        self._append(first, leaf_hashes)
        if self._must_pass is not None and self._must_pass.size > self.size:
            raise Forbidden("the newest signed tree has not been shown yet", rule="witness-high-water")
        return self._sign()

    def _sign(self) -> bytes:
        mark = _mark_of(self._require())
        # Before the note exists: a death between the two leaves a mark whose note nobody has, and the
        # recorder shows the same leaves again. The other order could leave a note that the next start knows
        # nothing of.
        self._high_water.store(mark)
        self._must_pass = mark
        return self._note_of(mark)

    def _note_of(self, mark: Mark) -> bytes:
        return sign(Checkpoint(origin=self._origin, size=mark.size, root=mark.root), self._origin, self._key)

    def _append(self, first: int, leaf_hashes: bytes) -> None:
        frontier = self._require()
        if first != frontier.size:
            raise Forbidden(
                f"the leaves begin at {first}, the tree has {frontier.size}", rule="witness-order"
            )
        extended = frontier.extend(_split(leaf_hashes))
        mark = self._must_pass
        # A frontier knows its root at its own size only: leaves that jump over the mark could not be
        # compared.
        if mark is not None and frontier.size < mark.size < extended.size:
            raise Forbidden("the leaves jump over the newest signed tree", rule="witness-high-water")
        self._frontier = extended
        self._pass_mark()

    def _pass_mark(self) -> None:
        frontier, mark = self._require(), self._must_pass
        if mark is not None and frontier.size == mark.size and frontier.root() != mark.root:
            # 3. For good: what was shown is not the history that was signed, and nothing may be built on it.
            self._frontier = None
            raise Forbidden(
                "the ledger was rewound or forked: its root is not the signed one",
                rule="witness-fork",
            )

    def _require(self) -> Frontier:
        if self._frontier is None:
            raise Forbidden("no tree has been resumed yet", rule="witness-resume-first")
        return self._frontier


def _mark_of(frontier: Frontier) -> Mark:
    return Mark(size=frontier.size, root=frontier.root())


def _split(hashes: bytes) -> tuple[bytes, ...]:
    if len(hashes) % HASH_BYTES:
        raise Forbidden("the hashes are not a multiple of 32 bytes", rule="witness-hashes")
    return tuple(hashes[i : i + HASH_BYTES] for i in range(0, len(hashes), HASH_BYTES))
