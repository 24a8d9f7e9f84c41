"""The records of all agents, indexed, and kept in a vault that outlives this process.

Rules:
- Not thread-safe by itself: `certmgr.agents` owns the table and the lock around it.
- The vault holds every living record as the table has it. A dead one leaves the vault at once and stays in
  the table for a while.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

from certmgr.lifecycle import DEAD, delivers
from certmgr.record import Record, describe_scope, serials
from certmgr.record_form import decode_record, encode_record
from ostiary.edge.clock import Clock
from ostiary.errors import NotFound, OstiaryError

_VAULT_PREFIX: Final = "agent:"
# How long a record without any certificate stays in the kernel if no manager comes back for it.
_UNSIGNED: Final = timedelta(days=1)
_log = logging.getLogger("ostiary.certmgr")


class VaultPort(Protocol):
    """Storage that outlives this process (`certmgr.vault`). Thread-safe.

    `save` returns False where the content will not survive; that is no error, and `lacks` gives the reason.
    """

    lacks: str | None

    def save(self, name: str, content: bytes, *, timeout_s: int) -> bool: ...

    def drop(self, name: str) -> None: ...

    def load(self) -> dict[str, bytes]: ...


class Table:
    """Records by agent and by the digest of their claim token."""

    def __init__(self, vault: VaultPort, clock: Clock) -> None:
        self._vault = vault
        self._clock = clock
        self._records: dict[str, Record] = {}
        self._by_digest: dict[bytes, str] = {}
        self._died: dict[str, datetime] = {}
        self._fleeting: set[str] = set()  # agents that the vault did not take

    @property
    def lacks(self) -> str | None:
        """Why some records do not survive a restart; None if all do."""
        return self._vault.lacks

    def get(self, agent: str) -> Record | None:
        return self._records.get(agent)

    def require(self, agent: str) -> Record:
        """Return a record; NotFound for an agent that is unknown or already forgotten."""
        record = self._records.get(agent)
        if record is None:
            raise NotFound(f"this manager has no agent {agent[:64]!r}", field="agent")
        return record

    def by_digest(self, digest: bytes) -> Record | None:
        """Return the record whose claim token has this SHA-256."""
        # Looking a digest up, instead of comparing tokens, leaves nothing to time.
        agent = self._by_digest.get(digest)
        return self._records.get(agent) if agent else None

    def all(self) -> list[Record]:
        return list(self._records.values())

    def live(self) -> list[Record]:
        """Return the records of all agents that have not ended."""
        return [record for record in self._records.values() if record.life.state not in DEAD]

    def put(self, record: Record) -> None:
        """Add or replace a record."""
        self._records[record.agent] = record
        self._by_digest[record.claim_digest] = record.agent
        if record.life.state in DEAD:
            self._died.setdefault(record.agent, self._clock.now())
            self._vault.drop(_VAULT_PREFIX + record.agent)
        else:
            # A late certificate brings a dead agent back to be revoked (`certmgr.lifecycle.LATE`).
            self._died.pop(record.agent, None)
            self._save(record)

    def _save(self, record: Record) -> None:
        now = self._clock.now()
        # The key expires with the last certificate: what a manager that never returns left is worthless then.
        ends = [window[1] for window in (record.life.used, record.life.signed) if window]
        timeout_s = int((max(ends, default=now + _UNSIGNED) - now).total_seconds())
        kept = self._vault.save(_VAULT_PREFIX + record.agent, encode_record(record), timeout_s=timeout_s)
        if kept:
            self._fleeting.discard(record.agent)
        else:
            self._fleeting.add(record.agent)

    def forget_dead(self, before: datetime) -> None:
        """Forget the agents that died before that time."""
        for agent in [agent for agent, died in self._died.items() if died < before]:
            del self._died[agent]
            record = self._records.pop(agent)
            self._by_digest.pop(record.claim_digest, None)
            self._fleeting.discard(agent)

    def restore(self, jitter: Callable[[], float]) -> None:
        """Read the records that an earlier manager of this node left."""
        now = self._clock.now()
        for name, content in self._vault.load().items():
            if not name.startswith(_VAULT_PREFIX):
                continue
            try:
                record = decode_record(content, now=now, jitter=jitter())
            except OstiaryError:
                # Left in place: a manager of the release that wrote it may return, and it expires by itself.
                _log.exception("record-unreadable", extra={"agent": name})
                continue
            self._records[record.agent] = record
            self._by_digest[record.claim_digest] = record.agent
        if self._records:
            _log.info("agents-restored", extra={"count": len(self._records)})

    def rows(self) -> list[tuple[Record, bool]]:
        """Return every record, and whether it survives a restart."""
        return [(record, record.agent not in self._fleeting) for record in self._records.values()]


def describe(record: Record, *, survives_restart: bool) -> dict[str, Any]:
    """Return what `certmgr status` shows of an agent; no secret."""
    issued = record.current.issued if record.current else None
    return {
        "agent": record.agent,
        "subsystem": record.names.subsystem,
        "state": record.life.state.value,
        "delivered": delivers(record.life),
        "generation": record.current.number if record.current else 0,
        "serial_number": issued.serial if issued else None,
        "not_after": issued.not_after.isoformat() if issued else None,
        "capabilities": sorted(issued.identity.capabilities) if issued else [],
        "uid": record.binding.uid if record.binding else record.uid,
        "scope": describe_scope(record.binding.scope) if record.binding else None,
        "attempts": record.life.attempts,
        "pending_serial_number": next(iter(serials(replace(record, current=None))), None),
        "survives_restart": survives_restart,
    }
