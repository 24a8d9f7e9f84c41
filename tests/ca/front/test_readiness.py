"""Readiness is asked of the parts themselves, once for all who ask within a moment."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from ca.front.readiness import KEEP_S, ReadinessChecks
from ostiary.errors import Busy, Forbidden, OstiaryError
from ostiary.front.health import Readiness
from tests.support.still_clock import ClockForTests


@dataclass
class Parts:
    """A store that answers, refuses or fails, and how often it was asked."""

    clock: ClockForTests = field(default_factory=ClockForTests)
    error: OstiaryError | None = None
    is_there: bool = True
    asked: int = 0

    def __post_init__(self) -> None:
        self.readiness = ReadinessChecks(
            {"store": self.store}, roles_separated=True, monotonic_ns=self.clock.monotonic_ns
        )

    async def store(self) -> bool:
        self.asked += 1
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        return self.is_there

    def look(self) -> Readiness:
        # A moment later than the look before.
        self.clock.later(seconds=KEEP_S)
        return asyncio.run(self.readiness())


def test_what_answers_is_ready() -> None:
    assert Parts().look() == Readiness(checks={"store": True}, roles_separated=True)


@pytest.mark.parametrize("error", [Busy("away"), Forbidden("another user's", rule="channel-peer"), None])
def test_what_fails_or_says_no_is_not(error: OstiaryError | None) -> None:
    parts = Parts(error=error, is_there=False)
    assert parts.look().checks == {"store": False}
    parts.error, parts.is_there = None, True
    assert parts.look().checks == {"store": True}


def test_many_who_ask_cost_one_look() -> None:
    parts = Parts()

    async def story() -> None:
        found = await asyncio.gather(*(parts.readiness() for _ in range(20)))
        assert found == [Readiness(checks={"store": True}, roles_separated=True)] * 20
        parts.clock.later(seconds=KEEP_S * 0.9)
        await parts.readiness()
        assert parts.asked == 1
        parts.clock.later(seconds=KEEP_S * 0.2)
        await parts.readiness()
        assert parts.asked == 2

    asyncio.run(story())


def test_a_client_that_leaves_does_not_end_the_others_look() -> None:
    parts = Parts()

    async def story() -> None:
        leaving = asyncio.create_task(parts.readiness())
        staying = asyncio.create_task(parts.readiness())
        await asyncio.sleep(0)
        leaving.cancel()
        assert (await staying).checks == {"store": True}

    asyncio.run(story())
    assert parts.asked == 1
