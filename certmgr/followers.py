"""What the manager listens to at its authority: the feed of revocations, and the ledger's checkpoints.

Rules:
- Both need a certificate that stands, so they wait until the manager has one; a failure pauses them, nothing
  more.
- The feed is a long poll, so an agent that an operator revokes is known to be so within a second.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Final

from certmgr.agents import Agents
from certmgr.est_client import ESTClient
from certmgr.ledger_memory import LedgerMemory
from certmgr.lifecycle import delivers
from ostiary.errors import OstiaryError

FEED_WAIT_S: Final = 20
PAUSE_S: Final = 2.0
CHECKPOINT_EVERY_S: Final = 30.0
_log = logging.getLogger("ostiary.certmgr")


class Follower:
    """Calls `turn(identity_pem)` again and again while the manager has a certificate; each returns how long to
    pause, in seconds.
    """

    def __init__(self, agents: Agents, name: str, turn: Callable[[bytes], float]) -> None:
        self._agents = agents
        self._name = name
        self._turn = turn
        self._stopped = threading.Event()

    def run(self) -> None:
        while not self._stopped.is_set():
            self._stopped.wait(self._once())

    def stop(self) -> None:
        self._stopped.set()

    def _once(self) -> float:
        record = self._agents.get(self._agents.node.manager)
        if record is None or record.current is None or not delivers(record.life):
            return PAUSE_S / 4
        try:
            return self._turn(record.current.identity_pem)
        except OstiaryError as exc:
            _log.info("not followed", extra={"what": self._name, "kind": exc.kind, "problem": exc.message})
        except Exception:  # noqa: BLE001 - the other duties of this process go on
            _log.exception("unexpected", extra={"what": self._name})
        return PAUSE_S


class RevocationFeed:
    """Tells the agents which certificates were revoked."""

    def __init__(self, agents: Agents, authority: ESTClient) -> None:
        self._agents = agents
        self._authority = authority
        self._since = 0

    def turn(self, identity_pem: bytes) -> float:
        """One long poll; goes on at once."""
        self._since, serials = self._authority.revocations(identity_pem, self._since, wait_s=FEED_WAIT_S)
        if serials:
            self._agents.cut_off(frozenset(serials))
        return 0.0


def checkpoint_turn(memory: LedgerMemory, authority: ESTClient) -> Callable[[bytes], float]:
    """Return what looks at the authority's newest checkpoint once."""

    def turn(identity_pem: bytes) -> float:
        note = authority.ledger(identity_pem, "checkpoint")
        memory.see(note, lambda path: authority.ledger(identity_pem, path))
        return CHECKPOINT_EVERY_S

    return turn
