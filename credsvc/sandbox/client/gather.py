"""Calls that come while another of the same entry is being answered go together, as one request.

A request wakes a worker and then the host, which costs as much as a quick call itself, and a front under load
has several calls at any moment. So the first goes at once; those that come before its answer wait for that
answer, though no longer than `WAIT_S`.

Rules:
- Nothing waits that comes alone, is large, or is of a module that is slow or not known yet.
- What one call does to its worker is its own affair: calls that their request leaves unanswered are to be
  asked alone, in the time that they have left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from credsvc.sandbox.client.decode import HoleProposal
from credsvc.sandbox.client.faults import SandboxFault

__all__ = ["LEARN_EVERY", "Call", "Crowd"]

# Far more than a quick call takes: whoever has waited this long waits for one that hangs, or a busy machine.
WAIT_S: Final = 0.002
# A request of so many calls fits a record, and keeps its worker for less than `_WORK_S`.
MOST: Final = 16
MAX_ITEM_BYTES: Final = 4096
_WORK_S: Final = 0.002
LEARN_EVERY: Final = 8
"""How often a call that comes alone asks for the pace of its worker, which is a system call; and before so
many, it says little.
"""


@dataclass(slots=True, eq=False)
class Call:
    """One that waits: the JSON of its arguments, its deadline (the loop's time) and what becomes of it, which
    is None where it is to be asked alone.
    """

    item: bytes
    deadline: float
    answer: asyncio.Future[HoleProposal | SandboxFault | None]

    def settle(self, answer: HoleProposal | SandboxFault | None) -> None:
        """Tell the caller, unless it has left."""
        if not self.answer.done():
            self.answer.set_result(answer)


class Crowd:
    """The calls of one entry of one module version. `start` is given those that shall go together."""

    def __init__(self, start: Callable[[Crowd, Sequence[Call]], None]) -> None:
        self._start = start
        self._most = 1
        self._waiting: list[Call] = []
        self._timer: asyncio.TimerHandle | None = None
        # Requests that are being answered; those that were asked since the last time that calls waited in
        # vain, for which the next ones wait.
        self._present = 0
        self._awaited = 0
        self._round = 0

    @property
    def is_empty(self) -> bool:
        """Say whether nothing is asked, and nobody waits."""
        return not self._present and not self._waiting

    def holds(self, item: bytes) -> bool:
        """Say whether a call shall wait for those that are being answered."""
        return self._awaited > 0 and self._most > 1 and len(item) <= MAX_ITEM_BYTES

    def wait(self, item: bytes, deadline: float) -> asyncio.Future[HoleProposal | SandboxFault | None]:
        """Have a call wait; `Call.answer` of it."""
        loop = asyncio.get_running_loop()
        call = Call(item, deadline, loop.create_future())
        self._waiting.append(call)
        if len(self._waiting) >= self._most:
            self.go()
        elif self._timer is None:
            self._timer = loop.call_later(WAIT_S, self._wait_no_longer)
        return call.answer

    def go(self) -> None:
        """Start those that wait."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        waiting, self._waiting = self._waiting, []
        if calls := [call for call in waiting if not call.answer.done()]:
            self._start(self, calls)

    def enter(self) -> int:
        """A request is asked; returns what `leave` wants to know of it."""
        self._present += 1
        self._awaited += 1
        return self._round

    def leave(self, entered: int) -> None:
        """A request was answered, or given up; after the last one those that wait go."""
        self._present -= 1
        if entered == self._round:
            self._awaited -= 1
            if not self._awaited:
                self.go()

    def learn(self, pace_s: float) -> None:
        """Take in how long a worker takes for a call."""
        self._most = min(MOST, int(_WORK_S / pace_s)) if pace_s > 0 else MOST

    def _wait_no_longer(self) -> None:
        self._round += 1
        self._awaited = 0
        self.go()
