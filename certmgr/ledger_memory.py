"""What this node remembers of the ledgers: the last checkpoint of each, and both sides of a contradiction.

Rules:
- A checkpoint counts when the ledger's own key signed it. It may only grow out of the last one: the proof is
  computed from tiles, which nobody needs to trust (`ostiary.ledger.proof`).
- On a smaller or inconsistent tree the old checkpoint stays, the new one is kept beside it, and the alarm
  stays on: agents and renewals go on, people must look.
- Not answering is no contradiction.

First form: one ledger's memory is one key in the vault, so it starts from the bootstrap document again after
a reboot.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec

from certmgr.bootstrap import KnownLedger
from certmgr.table import VaultPort
from ostiary.errors import BadInput, InternalFault
from ostiary.ledger.checkpoint import Checkpoint, open_note
from ostiary.ledger.proof import build_consistency_proof, check_consistency
from ostiary.ledger.tiles import Tile
from ostiary.ledger.tree import HASH_BYTES

KEEP_S: Final = 90 * 86_400
_log = logging.getLogger("ostiary.certmgr")


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """The last good checkpoint (signed note, None before the first), and the one that contradicts it, if any
    ever did.
    """

    note: bytes | None
    contradiction: bytes | None = None


class _Stored(msgspec.Struct, frozen=True, kw_only=True):
    note: bytes
    contradiction: bytes


class TileFetcher:
    """A HashReader over whatever fetches tiles by their path."""

    def __init__(self, fetch: Callable[[str], bytes]) -> None:
        self._fetch = fetch

    def tile(self, level: int, index: int, width: int) -> bytes:
        """Fetch a tile's hashes; InternalFault for a tile of another length."""
        hashes = self._fetch(Tile(level=level, index=index, width=width).path())
        if len(hashes) != width * HASH_BYTES:
            raise InternalFault("a tile of the ledger has another length than asked for")
        return hashes


def advance(memory: Memory, note: bytes, ledger: KnownLedger, fetch: Callable[[str], bytes]) -> Memory:
    """Return the memory after a checkpoint was seen; BadInput where it is none of this ledger's."""
    seen = open_note(note, [ledger.key])
    if seen.origin != ledger.origin:
        raise BadInput(f"the checkpoint is of '{seen.origin}', not '{ledger.origin}'", field="checkpoint")
    if memory.note is None:
        return replace(memory, note=note)
    last = open_note(memory.note, [ledger.key])
    try:
        _check_grown(last, seen, fetch)
    except BadInput:
        return replace(memory, contradiction=note)
    return replace(memory, note=note)


def _check_grown(last: Checkpoint, seen: Checkpoint, fetch: Callable[[str], bytes]) -> None:
    # Refuses a smaller tree, too.
    path = build_consistency_proof(TileFetcher(fetch), old_size=last.size, new_size=seen.size)
    check_consistency(
        old_size=last.size, old_root=last.root, new_size=seen.size, new_root=seen.root, path=path
    )


class LedgerMemory:
    """The memory of one ledger, in the vault. One thread's."""

    def __init__(self, ledger: KnownLedger, vault: VaultPort) -> None:
        self._ledger = ledger
        self._vault = vault
        self._name = f"ledger:{ledger.origin}"
        self._memory = self._load()

    @property
    def origin(self) -> str:
        return self._ledger.origin

    def _load(self) -> Memory:
        stored = self._vault.load().get(self._name)
        if stored is not None:
            try:
                value = msgspec.msgpack.decode(stored, type=_Stored)
                open_note(value.note, [self._ledger.key])
                return Memory(note=value.note, contradiction=value.contradiction or None)
            except (msgspec.MsgspecError, BadInput):
                _log.exception("the memory of a ledger can't be read", extra={"origin": self._ledger.origin})
        return Memory(note=self._ledger.note)

    def see(self, note: bytes, fetch: Callable[[str], bytes]) -> None:
        """Take in a checkpoint that the service shows now."""
        memory = advance(self._memory, note, self._ledger, fetch)
        if memory.contradiction and memory.contradiction != self._memory.contradiction:
            _log.error("the ledger contradicts what it showed before", extra={"origin": self._ledger.origin})
        if memory != self._memory:
            self._memory = memory
            stored = _Stored(note=memory.note or b"", contradiction=memory.contradiction or b"")
            self._vault.save(self._name, msgspec.msgpack.encode(stored), timeout_s=KEEP_S)

    def status(self) -> dict[str, Any]:
        """Return the row of `certmgr status`: both notes where there is a contradiction."""
        memory = self._memory
        return {
            "origin": self._ledger.origin,
            "size": open_note(memory.note, [self._ledger.key]).size if memory.note else None,
            "alarm": memory.contradiction is not None,
            "checkpoint": memory.note.decode() if memory.note else None,
            "contradiction": memory.contradiction.decode() if memory.contradiction else None,
        }
