"""The feed of revocations in one worker: who waits is woken, who can't wait is answered, connections are
cut.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import cast

import pytest

from ca.front.feed import RevocationFeed
from ca.store.reader import RevocationStep, StoreReader
from ostiary.errors import Busy
from ostiary.timestamp import EpochSeconds
from tests.support.waiting import PATIENCE_S, until


class StepsForTests:
    """A store's feed, and how often it was asked for its newest number."""

    def __init__(self) -> None:
        self.steps: list[RevocationStep] = []
        self.asked = 0
        self.is_away = False

    def revoke(self, serial: str) -> None:
        n = len(self.steps) + 1
        step = RevocationStep(n=n, serial=serial, revoked_at=EpochSeconds(n), reason="unspecified")
        self.steps.append(step)

    def last_revocation(self) -> int:
        self.asked += 1
        if self.is_away:
            raise Busy("the store can't be read now")
        return len(self.steps)

    def revocations_since(self, since: int) -> list[RevocationStep]:
        return self.steps[since:]


@pytest.fixture
def store() -> StepsForTests:
    return StepsForTests()


@pytest.fixture
def cut() -> list[int]:
    return []


@pytest.fixture
def feed(store: StepsForTests, cut: list[int]) -> RevocationFeed:
    def cut_off(serial_numbers: Iterable[int]) -> int:
        cut.extend(serial_numbers)
        return len(cut)

    return RevocationFeed(cast("StoreReader", store), cut_off=cut_off, max_waiters=1)


def test_connections_of_the_revoked_are_cut_once(
    feed: RevocationFeed, store: StepsForTests, cut: list[int]
) -> None:
    store.revoke("1f")
    feed.look()
    feed.look()
    store.revoke("20")
    feed.look()
    assert cut == [0x1F, 0x20]


def test_what_was_revoked_before_the_worker_began_has_no_connection(
    feed: RevocationFeed, store: StepsForTests, cut: list[int]
) -> None:
    store.revoke("1f")
    feed.start_at_newest()
    feed.look()
    assert cut == []


def test_what_is_there_is_answered_at_once(feed: RevocationFeed, store: StepsForTests) -> None:
    store.revoke("1f")
    store.revoke("20")
    following, steps = feed.since(1, wait_s=PATIENCE_S)
    assert (following, [step.serial for step in steps]) == (2, ["20"])


def test_who_waits_is_woken_by_the_one_thread_that_looks(feed: RevocationFeed, store: StepsForTests) -> None:
    answers: list[tuple[int, list[RevocationStep]]] = []
    waiting = threading.Thread(target=lambda: answers.append(feed.since(0, wait_s=10 * PATIENCE_S)))
    waiting.start()
    store.revoke("1f")

    def is_woken() -> bool:
        feed.look()
        return not waiting.is_alive()

    until(is_woken)
    assert [(following, len(steps)) for following, steps in answers] == [(1, 1)]


def test_who_finds_no_seat_is_answered_without_waiting(feed: RevocationFeed) -> None:
    assert feed._seats.acquire(blocking=False)
    assert feed.since(0, wait_s=60) == (0, [])


def test_a_client_that_is_ahead_goes_on_from_the_feeds_end(
    feed: RevocationFeed, store: StepsForTests
) -> None:
    """After a restore from a backup the feed has fewer steps than its clients know."""
    store.revoke("1f")
    assert feed.since(9, wait_s=0) == (1, [])


def test_a_store_that_can_not_be_read_is_looked_at_again(feed: RevocationFeed, store: StepsForTests) -> None:
    store.is_away = True
    stopped = threading.Event()
    following = threading.Thread(target=feed.run, args=(stopped,))
    following.start()
    until(lambda: store.asked >= 2)
    stopped.set()
    following.join(PATIENCE_S)
    assert not following.is_alive()
