"""Full verification: every entry of a log against a signed checkpoint, in one pass and constant memory.

Plan of `verify_log`:
1. Start from nothing, or from an earlier checkpoint that was proven before: its frontier must have its root.
2. Check that all checkpoints are of one log, and that it did not shrink.
3. Hash each entry; where stored hashes are at hand, compare with them, which finds a changed entry by its
   index.
4. At each waypoint (an earlier signed checkpoint) and at the checkpoint itself, compare the root.
5. Report damage to the tiles once the entries are known to be right: a stored hash that the checkpoint does
   not prove either.

To start from a proven frontier and to arrive at the new root is a proof of consistency by itself.

A fault is `NotProven` with the first and last index it can lie at: one entry where stored hashes tell, else
the entries between the last good waypoint and the first bad one. What the entries say is not looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from ostiary.errors import NotFound
from ostiary.ledger.checkpoint import Checkpoint
from ostiary.ledger.errors import NotProven
from ostiary.ledger.proof import build_inclusion_proof, check_inclusion, read_frontier
from ostiary.ledger.tiles import TILE_WIDTH, HashReader, subtree_root
from ostiary.ledger.tree import HASH_BYTES, Frontier, leaf_hashes

__all__ = ["Since", "verify_log"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Since:
    """A checkpoint that was proven before, with the frontier of its tree; the entries before it are not read
    again.
    """

    checkpoint: Checkpoint
    frontier: Frontier

    def __post_init__(self) -> None:
        if (self.frontier.size, self.frontier.root()) != (self.checkpoint.size, self.checkpoint.root):
            raise NotProven(
                f"the log no longer has the tree of {self.checkpoint.size} entries that was signed",
                first_index=0,
                last_index=self.checkpoint.size - 1,
            )

    @classmethod
    def read(cls, checkpoint: Checkpoint, hashes: HashReader) -> Since:
        """Take the frontier from a log's tiles, which prove themselves against the checkpoint's root."""
        try:
            return cls(checkpoint=checkpoint, frontier=read_frontier(hashes, checkpoint.size))
        except NotFound as exc:
            raise NotProven(
                f"the log has no tiles for the tree of {checkpoint.size} entries that was signed"
            ) from exc


def verify_log(
    entries: Iterable[bytes],
    checkpoint: Checkpoint,
    *,
    since: Since | None,
    hashes: HashReader | None,
    waypoints: Sequence[Checkpoint],
) -> Frontier:
    """Check that these entries, in order, are the log of a checkpoint; return its frontier, to start from
    next time.

    `entries` begins at the entry `since.checkpoint.size`, or at 0; what follows the checkpoint's size is not
    read. `hashes` is where the log's tiles are, `waypoints` other signed checkpoints; both only help to find
    a fault. The checkpoints' signatures are the caller's to check. Raises NotProven.
    """
    # 1. `Since` compared its root when it was made.
    frontier = since.frontier if since else Frontier()
    # 2.
    _check_order(since, checkpoint, waypoints)
    stops = sorted(
        (each for each in waypoints if frontier.size < each.size < checkpoint.size),
        key=lambda each: each.size,
    )
    source = iter(entries)
    tiles = _Tiles(hashes)
    for stop in (*stops, checkpoint):
        # 3.
        first = frontier.size
        frontier = _advance(frontier, source, stop, tiles)
        # 4.
        if frontier.root() != stop.root:
            raise tiles.locate(first, stop)
    # 5.
    tiles.check_undamaged()
    return frontier


def _check_order(since: Since | None, checkpoint: Checkpoint, waypoints: Sequence[Checkpoint]) -> None:
    others = [*waypoints, since.checkpoint] if since else waypoints
    if any(each.origin != checkpoint.origin for each in others):
        raise NotProven(f"a checkpoint belongs to a log other than {checkpoint.origin!r}", field="origin")
    if since and since.checkpoint.size > checkpoint.size:
        raise NotProven(
            f"the log shrank from {since.checkpoint.size} to {checkpoint.size} entries",
            first_index=checkpoint.size,
        )


def _advance(frontier: Frontier, source: Iterator[bytes], stop: Checkpoint, tiles: _Tiles) -> Frontier:
    """Extend the frontier to the stop's size, tile by tile."""
    while (at := frontier.size) < stop.size:
        end = min(stop.size, (at // TILE_WIDTH + 1) * TILE_WIDTH)
        leaves = leaf_hashes(islice(source, end - at))
        tiles.compare(at, leaves, stop)
        if len(leaves) < end - at:
            raise NotProven(
                f"the entry {at + len(leaves)} is missing; the checkpoint has {stop.size}",
                first_index=at + len(leaves),
                last_index=stop.size - 1,
            )
        frontier = frontier.extend(leaves)
    return frontier


class _Tiles:
    """The stored hashes, for as long as they can be believed.

    They are a help, never evidence: whoever can change an entry can change the hash beside it.
    """

    def __init__(self, hashes: HashReader | None) -> None:
        self._hashes = hashes
        self._damaged_at: int | None = None

    def compare(self, at: int, leaves: list[bytes], stop: Checkpoint) -> None:
        """Compare leaf hashes, from the index `at` on and within one tile, with what is stored for them."""
        if self._hashes is None or self._damaged_at is not None or not leaves:
            return
        index, offset = divmod(at, TILE_WIDTH)
        try:
            stored = self._hashes.tile(0, index, offset + len(leaves))[offset * HASH_BYTES :]
        except NotFound:
            self._damaged_at = at
            return
        # All at once; only a difference is worth looking at one by one.
        if stored == b"".join(leaves):
            return
        found = (stored[start : start + HASH_BYTES] for start in range(0, len(stored), HASH_BYTES))
        pairs = enumerate(zip(found, leaves, strict=True))
        position, hashed = next((position, hashed) for position, (hashed, leaf) in pairs if hashed != leaf)
        self._judge(at + position, hashed, stop, self._hashes)

    def _judge(self, index: int, stored: bytes, stop: Checkpoint, hashes: HashReader) -> None:
        """Refuse the entry if the checkpoint proves the hash that is stored for it; else it is the hash that
        is wrong.
        """
        try:
            path = build_inclusion_proof(hashes, index=index, size=stop.size)
            check_inclusion(leaf=stored, index=index, size=stop.size, path=path, root=stop.root)
        except (NotProven, NotFound):
            self._damaged_at = index
        else:
            raise NotProven(
                f"the entry {index} is not the one that was recorded", first_index=index, last_index=index
            )

    def check_undamaged(self) -> None:
        """Report damage to stored hashes, once the entries are known to be right."""
        if self._damaged_at is not None:
            raise NotProven(
                f"all entries are right, but the hashes stored from entry {self._damaged_at} on are damaged",
                first_index=self._damaged_at,
            )

    def locate(self, first: int, stop: Checkpoint) -> NotProven:
        """Narrow a wrong root down to the first tile that does not hash to what the level above
        holds for it.
        """
        last = stop.size - 1
        tile = self._first_torn(first, stop)
        if tile is not None:
            first, last = max(first, tile * TILE_WIDTH), min(last, (tile + 1) * TILE_WIDTH - 1)
        return NotProven(
            f"the entries {first} to {last} do not lead to the root of the checkpoint at {stop.size}",
            first_index=first,
            last_index=last,
        )

    def _first_torn(self, first: int, stop: Checkpoint) -> int | None:
        if self._hashes is None or self._damaged_at is not None:
            return None
        for index in range(first // TILE_WIDTH, stop.size // TILE_WIDTH):
            above, offset = divmod(index, TILE_WIDTH)
            expected = self._hashes.tile(1, above, offset + 1)[offset * HASH_BYTES :]
            if subtree_root(self._hashes.tile(0, index, TILE_WIDTH)) != expected:
                return index
        return None
