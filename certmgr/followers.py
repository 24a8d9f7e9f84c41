"""The manager's two subscriptions at its authority: the feed of revocations, and the ledger's checkpoints.

Rules:
- Both need an active certificate, so they wait until the manager has one; a failure only pauses them.
- The feed is a long poll, so the manager learns within a second which agent an operator has revoked.
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

FEED_WAIT_S: Final = 20  # below the idle timeouts on the way (nginx's proxy_read_timeout is 60 s)
PAUSE_S: Final = 2.0  # after a failure
CHECKPOINT_EVERY_S: Final = 30.0
_log = logging.getLogger("ostiary.certmgr")


class Follower:
    """Calls `turn(identity_pem)` repeatedly while the manager has a certificate.

    Each call returns the pause until the next one, in seconds. One thread's.
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
        # The same condition as a claim's: before it, the certificate has no capabilities to read feeds with.
        if record is None or record.current is None or not delivers(record.life):
            return PAUSE_S / 4
        try:
            return self._turn(record.current.identity_pem)
        except OstiaryError as exc:
            problem = {"what": self._name, "kind": exc.kind, "problem": exc.message}
            _log.info("authority-not-followed", extra=problem)
        except Exception:  # noqa: BLE001 - the other duties of this process go on
            _log.exception("unexpected-exception", extra={"what": self._name})
        return PAUSE_S


class RevocationFeed:
    """Withdraws the agents whose certificates the feed names."""

    def __init__(self, agents: Agents, authority: ESTClient) -> None:
        self._agents = agents
        self._authority = authority
        # Position 0 is the feed's beginning: a manager that starts again reads all that is still in it, and
        # so learns what was revoked while it was down.
        self._since = 0

    def turn(self, identity_pem: bytes) -> float:
        """Do one long poll; the next follows without a pause."""
        self._since, serials = self._authority.revocations(identity_pem, self._since, wait_s=FEED_WAIT_S)
        if serials:
            self._agents.cut_off(frozenset(serials))
        return 0.0


def checkpoint_turn(memory: LedgerMemory, authority: ESTClient) -> Callable[[bytes], float]:
    """Return a turn that reads the authority's newest checkpoint and compares it with the memory."""

    def turn(identity_pem: bytes) -> float:
        note = authority.ledger(identity_pem, "checkpoint")
        memory.see(note, lambda path: authority.ledger(identity_pem, path))
        return CHECKPOINT_EVERY_S

    return turn
