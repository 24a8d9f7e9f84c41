"""Whether this worker can serve: each check asks the thing itself.

Rules:
- None says more than ready or not, because anybody may ask.
- What was found counts for KEEP_S, and one check serves all who ask meanwhile: many who ask cost store and
  recorder no more than one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from ostiary.errors import OstiaryError
from ostiary.front.health import Readiness

KEEP_S: Final = 0.25

Check = Callable[[], Awaitable[bool]]


class ReadinessChecks:
    """One per worker, for its loop; call it for the newest finding."""

    def __init__(
        self, checks: Mapping[str, Check], *, roles_separated: bool, monotonic_ns: Callable[[], int]
    ) -> None:
        """A check returns whether its part is ready; an OstiaryError means that it is not."""
        self._checks = checks
        self._roles_separated = roles_separated
        self._monotonic_ns = monotonic_ns
        # When the newest look began (ns), and the look.
        self._newest: tuple[int, asyncio.Task[Readiness]] | None = None

    async def __call__(self) -> Readiness:
        now_ns = self._monotonic_ns()
        if self._newest is None or (self._newest[1].done() and now_ns - self._newest[0] >= KEEP_S * 1e9):
            # A task of its own: whoever began it may be cancelled while others wait for it.
            self._newest = (now_ns, asyncio.create_task(self._look()))
        return await asyncio.shield(self._newest[1])

    async def _look(self) -> Readiness:
        found = {part: await _is_ready(check) for part, check in self._checks.items()}
        return Readiness(checks=found, roles_separated=self._roles_separated)


async def _is_ready(check: Check) -> bool:
    try:
        return await check()
    except OstiaryError:
        return False
