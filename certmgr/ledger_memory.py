"""This node's memory of the ledgers: the last checkpoint of each, and both sides of a contradiction.

Rules:
- A checkpoint counts if the ledger's own key signed it. It must extend the last one: the proof is computed
  from tiles, which need no trust (`ostiary.ledger.proof`).
- On a smaller or inconsistent tree the old checkpoint stays, the new one is kept beside it, and the alarm
  stays on. Agents and renewals continue; a person has to decide.
- A ledger that does not answer contradicts nothing.

The memory of one ledger is one key in the vault; after a reboot it begins with the bootstrap document again.
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

KEEP_S: Final = 90 * 86_400  # from the last change; then the node trusts the bootstrap document again
_log = logging.getLogger("ostiary.certmgr")


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """The last good checkpoint and the one that contradicts it: signed notes, None where there is none."""

    note: bytes | None
    contradiction: bytes | None = None


class _Stored(msgspec.Struct, frozen=True, kw_only=True):
    # b"" where `Memory` says None: the form of the keys that earlier managers left.
    note: bytes
    contradiction: bytes


class TileFetcher:
    """A HashReader over a function that fetches a tile by its path."""

    def __init__(self, fetch: Callable[[str], bytes]) -> None:
        self._fetch = fetch

    def tile(self, level: int, index: int, width: int) -> bytes:
        """Fetch a tile's hashes; InternalFault for a tile of another length."""
        hashes = self._fetch(Tile(level=level, index=index, width=width).path())
        if len(hashes) != width * HASH_BYTES:
            raise InternalFault("a tile of the ledger has the wrong length")
        return hashes


def advance(memory: Memory, note: bytes, ledger: KnownLedger, fetch: Callable[[str], bytes]) -> Memory:
    """Return the memory after reading a checkpoint; BadInput if it does not belong to this ledger.

    1. This ledger's key signed it. 2. The first one is taken as it is. 3. A later one extends the last; if it
    does not, both are kept.
    """
    # 1. a note that anybody else signed proves nothing, so it raises no alarm
    seen = open_note(note, [ledger.key])
    if seen.origin != ledger.origin:
        raise BadInput(
            f"the checkpoint belongs to '{seen.origin}', not '{ledger.origin}'", field="checkpoint"
        )
    # 2. trust on first use, where the bootstrap document had no checkpoint
    if memory.note is None:
        return replace(memory, note=note)
    # 3. The tiles are not trusted: a wrong hash breaks the proof. InternalFault (a tile that does not arrive)
    # passes through and raises no alarm.
    last = open_note(memory.note, [ledger.key])
    try:
        _check_grown(last, seen, fetch)
    except BadInput:
        return replace(memory, contradiction=note)
    return replace(memory, note=note)


def _check_grown(last: Checkpoint, seen: Checkpoint, fetch: Callable[[str], bytes]) -> None:
    # RFC 6962 section 2.1.2; `build_consistency_proof` refuses a smaller tree as well.
    path = build_consistency_proof(TileFetcher(fetch), old_size=last.size, new_size=seen.size)
    check_consistency(
        old_size=last.size, old_root=last.root, new_size=seen.size, new_root=seen.root, path=path
    )


class LedgerMemory:
    """The memory of one ledger, in the vault. `see` is one thread's; `status` may be called from any."""

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
                _log.exception("ledger-memory-unreadable", extra={"origin": self._ledger.origin})
        return Memory(note=self._ledger.note)

    def see(self, note: bytes, fetch: Callable[[str], bytes]) -> None:
        """Compare a checkpoint that the service has published, and remember it."""
        memory = advance(self._memory, note, self._ledger, fetch)
        if memory.contradiction and memory.contradiction != self._memory.contradiction:
            _log.error("ledger-contradicts-checkpoint", extra={"origin": self._ledger.origin})
        if memory != self._memory:
            self._memory = memory
            stored = _Stored(note=memory.note or b"", contradiction=memory.contradiction or b"")
            self._vault.save(self._name, msgspec.msgpack.encode(stored), timeout_s=KEEP_S)

    def status(self) -> dict[str, Any]:
        """Return the row for `certmgr status`: both notes if there is a contradiction."""
        memory = self._memory
        return {
            "origin": self._ledger.origin,
            "size": open_note(memory.note, [self._ledger.key]).size if memory.note else None,
            "alarm": memory.contradiction is not None,
            "checkpoint": memory.note.decode() if memory.note else None,
            "contradiction": memory.contradiction.decode() if memory.contradiction else None,
        }
