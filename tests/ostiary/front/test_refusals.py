"""Refusals without an identity become few entries, and none is lost while the recorder is away."""

from __future__ import annotations

import asyncio

import pytest

from ostiary.errors import Busy
from ostiary.front import refusals
from ostiary.front.refusals import MAX_ROWS, OTHERS, RefusalCounter
from ostiary.work.reports import Refusals


class Records:
    """A recorder that keeps what it is given, or is away."""

    def __init__(self, *, is_away: bool = False) -> None:
        self.kept: list[Refusals] = []
        self.is_away = is_away
        self.heard = asyncio.Event()

    async def __call__(self, item: Refusals) -> None:
        if self.is_away:
            raise Busy("away")
        self.kept.append(item)
        self.heard.set()


def test_they_are_added_up_by_source_and_reason() -> None:
    counter, records = RefusalCounter(), Records()
    for source, reason in (("a", "x"), ("a", "x"), ("b", "x"), ("a", "y")):
        counter.add(source, reason)
    assert asyncio.run(counter.flush(records)) == 3
    assert {(row.source, row.reason): row.count for row in records.kept} == {
        ("a", "x"): 2,
        ("b", "x"): 1,
        ("a", "y"): 1,
    }
    assert asyncio.run(counter.flush(records)) == 0


def test_a_flood_of_sources_is_counted_together() -> None:
    counter, records = RefusalCounter(), Records()
    for number in range(MAX_ROWS + 50):
        counter.add(f"10.0.0.{number}", "x")
    asyncio.run(counter.flush(records))
    assert len(records.kept) == MAX_ROWS + 1
    assert next(row.count for row in records.kept if row.source == OTHERS) == 50


def test_what_was_not_recorded_is_counted_on() -> None:
    counter, records = RefusalCounter(), Records(is_away=True)
    counter.add("a", "x")
    assert asyncio.run(counter.flush(records)) == 0
    counter.add("a", "x")
    records.is_away = False
    asyncio.run(counter.flush(records))
    assert [row.count for row in records.kept] == [2]


def test_a_flush_that_is_cancelled_loses_nothing() -> None:
    counter, records = RefusalCounter(), Records()
    counter.add("a", "x")

    async def never(_item: Refusals) -> None:
        await asyncio.Event().wait()

    async def story() -> None:
        flush = asyncio.create_task(counter.flush(never))
        await asyncio.sleep(0)
        flush.cancel()
        await asyncio.gather(flush, return_exceptions=True)
        await counter.flush(records)

    asyncio.run(story())
    assert [row.count for row in records.kept] == [1]


def test_they_are_recorded_again_and_again_until_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "EVERY_S", 0.001)
    counter, records = RefusalCounter(), Records()

    async def story() -> None:
        run = asyncio.create_task(counter.run(records, offset_s=0.0))
        for _ in range(2):
            counter.add("a", "x")
            await records.heard.wait()
            records.heard.clear()
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)

    asyncio.run(story())
    assert [row.count for row in records.kept] == [1, 1]
