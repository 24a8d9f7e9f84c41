"""Refusals without an identity become few entries, and none is lost while the recorder is away."""

from __future__ import annotations

import threading

from ostiary.errors import Busy
from ostiary.front.refusals import EVERY_S, MAX_ROWS, OTHERS, RefusalCounter
from ostiary.work.reports import Refusals


def test_they_are_added_up_by_source_and_reason() -> None:
    counter, recorded = RefusalCounter(), list[Refusals]()
    for source, reason in (("a", "x"), ("a", "x"), ("b", "x"), ("a", "y")):
        counter.add(source, reason)
    assert counter.flush(recorded.append) == 3
    assert {(row.source, row.reason): row.count for row in recorded} == {
        ("a", "x"): 2,
        ("b", "x"): 1,
        ("a", "y"): 1,
    }
    assert counter.flush(recorded.append) == 0


def test_a_flood_of_sources_is_counted_together() -> None:
    counter, recorded = RefusalCounter(), list[Refusals]()
    for number in range(MAX_ROWS + 50):
        counter.add(f"10.0.0.{number}", "x")
    counter.flush(recorded.append)
    assert len(recorded) == MAX_ROWS + 1
    assert next(row.count for row in recorded if row.source == OTHERS) == 50


def test_what_was_not_recorded_is_counted_on() -> None:
    counter, recorded = RefusalCounter(), list[Refusals]()

    def away(_item: Refusals) -> None:
        raise Busy("away")

    counter.add("a", "x")
    assert counter.flush(away) == 0
    counter.add("a", "x")
    counter.flush(recorded.append)
    assert [row.count for row in recorded] == [2]


class _Stopped(threading.Event):
    """Lets `run` have so many pauses, and keeps how long they were."""

    def __init__(self, pauses: int) -> None:
        super().__init__()
        self.pauses = pauses
        self.waited: list[float | None] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.waited.append(timeout)
        return len(self.waited) > self.pauses


def test_they_are_recorded_once_a_minute_until_stopped() -> None:
    counter, recorded, stopped = RefusalCounter(), list[Refusals](), _Stopped(pauses=2)
    counter.add("a", "x")
    counter.run(recorded.append, stopped, offset_s=3.0)
    assert [row.count for row in recorded] == [1]
    assert stopped.waited == [EVERY_S + 3.0, EVERY_S, EVERY_S]
