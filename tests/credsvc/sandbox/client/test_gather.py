"""Which calls go together, and how long they wait for each other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest

from credsvc.sandbox.client import gather
from credsvc.sandbox.client.gather import Call, Crowd
from tests.support.waiting import PATIENCE_S, RUNS_OUT_S, at_least

Started = list[list[bytes]]
QUICK_S, SLOW_S = 0.00002, 0.005
Story = Callable[[Crowd, Started], Coroutine[Any, Any, None]]


def tell(story: Story, *, pace_s: float = QUICK_S) -> None:
    """Run a story with a crowd that knows its pace, and the items that it started."""

    async def told() -> None:
        started: Started = []

        def start(_crowd: Crowd, calls: Sequence[Call]) -> None:
            started.append([call.item for call in calls])
            for call in calls:
                call.settle(None)

        crowd = Crowd(start)
        crowd.learn(pace_s)
        await story(crowd, started)

    asyncio.run(told())


def test_the_first_waits_for_nothing_and_the_next_for_its_answer() -> None:
    async def story(crowd: Crowd, started: Started) -> None:
        assert not crowd.holds(b"a")
        entered = crowd.enter()
        assert crowd.holds(b"b")
        waits = [crowd.wait(item, 1.0) for item in (b"b", b"c", b"d")]
        assert started == []
        crowd.leave(entered)
        assert started == [[b"b", b"c", b"d"]]
        assert [await each for each in waits] == [None] * 3
        assert not crowd.holds(b"e")

    tell(story)


def test_all_requests_are_waited_for() -> None:
    async def story(crowd: Crowd, started: Started) -> None:
        entered = [crowd.enter(), crowd.enter()]
        crowd.wait(b"a", 1.0)
        crowd.leave(entered[0])
        assert started == []
        crowd.leave(entered[1])
        assert started == [[b"a"]]
        assert crowd.is_empty

    tell(story)


def test_no_more_go_together_than_fit() -> None:
    async def story(crowd: Crowd, started: Started) -> None:
        crowd.enter()
        for _ in range(2 * gather.MOST + 1):
            crowd.wait(b"a", 1.0)
        assert [len(each) for each in started] == [gather.MOST] * 2

    tell(story)


def test_a_request_that_hangs_is_waited_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """After `WAIT_S` those that waited go, and the next wait for them, no more for the one that hangs."""
    monkeypatch.setattr(gather, "WAIT_S", RUNS_OUT_S)

    async def story(crowd: Crowd, started: Started) -> None:
        hanging = crowd.enter()
        with at_least(RUNS_OUT_S):
            await crowd.wait(b"a", 1.0)
        assert not crowd.holds(b"b")
        entered = crowd.enter()
        monkeypatch.setattr(gather, "WAIT_S", PATIENCE_S)
        waits = crowd.wait(b"b", 1.0)
        crowd.leave(hanging)
        assert not waits.done()
        crowd.leave(entered)
        await waits
        assert started == [[b"a"], [b"b"]]
        assert crowd.is_empty

    tell(story)


@pytest.mark.parametrize("pace_s", [SLOW_S, 10.0])
def test_calls_of_a_slow_module_wait_for_nothing(pace_s: float) -> None:
    async def story(crowd: Crowd, _started: Started) -> None:
        crowd.enter()
        assert not crowd.holds(b"a")
        crowd.learn(QUICK_S)
        assert crowd.holds(b"a")

    tell(story, pace_s=pace_s)


def test_calls_of_a_module_that_is_not_known_wait_for_nothing() -> None:
    crowd = Crowd(lambda _crowd, _calls: None)
    crowd.enter()
    assert not crowd.holds(b"a")


def test_large_calls_wait_for_nothing() -> None:
    async def story(crowd: Crowd, _started: Started) -> None:
        crowd.enter()
        assert crowd.holds(b"a" * gather.MAX_ITEM_BYTES)
        assert not crowd.holds(b"a" * (gather.MAX_ITEM_BYTES + 1))

    tell(story)


def test_a_caller_that_has_left_is_not_asked_for() -> None:
    async def story(crowd: Crowd, started: Started) -> None:
        entered = crowd.enter()
        waits = [crowd.wait(item, 1.0) for item in (b"a", b"b")]
        waits[0].cancel()
        crowd.leave(entered)
        assert started == [[b"b"]]
        entered = crowd.enter()
        crowd.wait(b"c", 1.0).cancel()
        crowd.leave(entered)
        assert started == [[b"b"]]

    tell(story)
