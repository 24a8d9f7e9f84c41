"""Refusing somebody who is known: recorded first, then told.

Rules:
- A refusal of anybody with an identity is an entry (`Refuse`) before it is an answer; where it can't be
  recorded the answer is Busy.
- One certificate writes at most `REFUSED` of them: beyond that it is told to wait (429), unrecorded, so that
  a peer that is always refused cannot make the ledger grow as fast as it can ask.

Thread-safe; one per worker.
"""

from __future__ import annotations

from typing import Final, NoReturn

from ostiary.edge.clock import Clock
from ostiary.front.http import check_pace
from ostiary.front.limits import Buckets, Limit
from ostiary.recorder.client import RecorderPort
from ostiary.work.item import Peer
from ostiary.work.reports import Refuse

REFUSED: Final = Limit(rate_per_s=5, burst=200)
"""Per certificate and worker: a person who tries out a policy never meets it."""


class Refuser:
    """See the module's docstring."""

    def __init__(self, recorder: RecorderPort, clock: Clock, *, limit: Limit = REFUSED) -> None:
        self._recorder = recorder
        self._clock = clock
        self._buckets = Buckets(limit)

    def refuse(self, peer: Peer, *, act: str, target: str, rule: str, reason: str) -> NoReturn:
        """Record; the recorder's answer to a refusal is the caller's (Forbidden, Busy)."""
        check_pace(self._buckets.take(peer.serial, now_ns=self._clock.monotonic_ns()))
        self._recorder.submit(Refuse(by=peer, act=act, target=target, rule=rule, reason=reason))
        raise AssertionError("the recorder took a refusal for an act")
