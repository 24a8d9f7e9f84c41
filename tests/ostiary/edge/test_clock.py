"""The machine's clock: aware, in the units that it names, and never backwards where it says so."""

from __future__ import annotations

import datetime as dt
import time

from ostiary.edge.clock import Clock, SystemClock


def test_one_moment_is_the_same_in_both_forms() -> None:
    clock: Clock = SystemClock()
    before_ms, now, after_ms = clock.epoch_ms(), clock.now(), clock.epoch_ms()
    assert now.tzinfo is dt.UTC
    assert before_ms <= now.timestamp() * 1000 < after_ms + 1


def test_monotonic_nanoseconds_are_those_of_every_process_of_the_host() -> None:
    before, read, after = time.clock_gettime_ns(time.CLOCK_MONOTONIC), SystemClock().monotonic_ns(), 0
    after = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    assert before <= read <= after
