"""Token buckets: what may come at once, how fast more may come, and a table that does not grow."""

from __future__ import annotations

import pytest

from ostiary.front.limits import Buckets, Limit

SECOND = 1_000_000_000


def test_a_burst_then_the_rate() -> None:
    buckets = Buckets(Limit(rate_per_s=2, burst=3))
    assert [buckets.take("a", now_ns=0) for _ in range(3)] == [0, 0, 0]
    assert buckets.take("a", now_ns=0) == pytest.approx(0.5)
    assert buckets.take("b", now_ns=0) == 0
    assert buckets.take("a", now_ns=SECOND // 2) == 0
    assert buckets.take("a", now_ns=SECOND // 2) > 0


def test_a_bucket_never_holds_more_than_its_burst() -> None:
    buckets = Buckets(Limit(rate_per_s=100, burst=2))
    buckets.take("a", now_ns=0)
    assert [buckets.take("a", now_ns=100 * SECOND) > 0 for _ in range(3)] == [False, False, True]


def test_looking_takes_nothing() -> None:
    buckets = Buckets(Limit(rate_per_s=1, burst=1))
    assert buckets.wait_s("a", now_ns=0) == 0
    assert buckets.take("a", now_ns=0) == 0
    assert buckets.wait_s("a", now_ns=0) == pytest.approx(1.0)


def test_the_table_forgets_the_oldest() -> None:
    buckets = Buckets(Limit(rate_per_s=1, burst=1), max_keys=2)
    for key in ("a", "b", "c"):
        buckets.take(key, now_ns=0)
    assert buckets.wait_s("a", now_ns=0) == 0
    assert buckets.wait_s("c", now_ns=0) > 0
