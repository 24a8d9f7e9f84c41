"""The feed of revocations in one worker: who waits is woken, who can't wait is answered, connections are
cut, and the store is asked once for all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

import pytest

from ca.front.feed import SEATS_OF_ONE, RevocationFeed
from ca.store.reader import MAX_REVOCATIONS, RevocationStep
from ostiary.errors import Busy
from ostiary.timestamp import EpochSeconds
from tests.support.waiting import PATIENCE_S, RUNS_OUT_S, until_on_loop

BY = "0a"
SEATS = 3


class StepsForTests:
    """A store's feed, and how often it was asked for its newest number and for its steps."""

    def __init__(self) -> None:
        self.steps: list[RevocationStep] = []
        self.asked = 0
        self.reads = 0
        self.is_away = False

    def revoke(self, serial: str) -> None:
        n = len(self.steps) + 1
        step = RevocationStep(n=n, serial=serial, revoked_at=EpochSeconds(n), reason="unspecified")
        self.steps.append(step)

    async def last_revocation(self) -> int:
        self.asked += 1
        if self.is_away:
            raise Busy("the store can't be read now")
        return len(self.steps)

    async def revocations_since(self, since: int) -> list[RevocationStep]:
        self.reads += 1
        return self.steps[since : since + MAX_REVOCATIONS]


class Feed:
    """A feed with its store; `cut` are the serial numbers that were cut off."""

    def __init__(self) -> None:
        self.store = StepsForTests()
        self.cut: list[int] = []
        self.feed = RevocationFeed(self.store, watching=self.store, cut_off=self._cut_off, max_waiters=SEATS)

    def _cut_off(self, serial_numbers: Iterable[int]) -> int:
        self.cut.extend(serial_numbers)
        return len(self.cut)

    async def revoke(self, *serials: str) -> None:
        """Revoke, and let the feed look."""
        for serial in serials:
            self.store.revoke(serial)
        await self.feed.look()

    async def since(self, since: int, *, wait_s: float = 0, by: str = BY) -> tuple[int, list[str]]:
        following, steps = await self.feed.since(since, wait_s=wait_s, by=by)
        return following, [step.serial for step in steps]

    async def waiting(self, since: int, *, by: str = BY) -> asyncio.Task[tuple[int, list[str]]]:
        """Somebody who waits by now."""
        task = asyncio.create_task(self.since(since, wait_s=10 * PATIENCE_S, by=by))
        await asyncio.sleep(0)
        assert not task.done()
        return task


def told(story: Callable[[Feed], Coroutine[Any, Any, None]]) -> Feed:
    """Run a story with a feed of its own."""
    feed = Feed()
    asyncio.run(story(feed))
    return feed


def test_connections_of_the_revoked_are_cut_once() -> None:
    async def story(feed: Feed) -> None:
        await feed.revoke("1f")
        await feed.feed.look()
        await feed.revoke("20")

    assert told(story).cut == [0x1F, 0x20]


def test_what_was_revoked_before_the_worker_began_has_no_connection() -> None:
    async def story(feed: Feed) -> None:
        feed.store.revoke("1f")
        await feed.feed.start_at_newest()
        await feed.feed.look()

    assert told(story).cut == []


def test_what_is_there_is_answered_at_once() -> None:
    async def story(feed: Feed) -> None:
        await feed.revoke("1f", "20")
        assert await feed.since(1, wait_s=PATIENCE_S) == (2, ["20"])

    told(story)


def test_who_does_not_wait_is_told_what_the_store_has_now() -> None:
    """Also what no look has found yet: somebody may ask right after a revocation."""

    async def story(feed: Feed) -> None:
        feed.store.revoke("1f")
        assert await feed.since(0) == (1, ["1f"])
        assert await feed.since(1) == (1, [])

    told(story)


def test_what_the_worker_did_not_see_itself_comes_from_the_store() -> None:
    async def story(feed: Feed) -> None:
        feed.store.revoke("1f")
        await feed.feed.start_at_newest()
        await feed.revoke("20")
        assert await feed.since(0, wait_s=PATIENCE_S) == (2, ["1f", "20"])

    told(story)


def test_all_who_wait_are_woken_by_the_one_look_that_reads() -> None:
    async def story(feed: Feed) -> None:
        waiting = [await feed.waiting(0, by=by) for by in ("0a", "0b", "0c")]
        await feed.revoke("1f")
        assert await asyncio.gather(*waiting) == [(1, ["1f"])] * 3
        assert (feed.store.asked, feed.store.reads) == (1, 1)

    told(story)


def test_thousands_are_woken_a_few_at_a_time() -> None:
    """The loop's other work has its turn in between."""
    feed = Feed()
    feed.feed = RevocationFeed(feed.store, watching=feed.store, cut_off=feed._cut_off, max_waiters=4000)

    async def story() -> None:
        waiting = [await feed.waiting(0, by=str(n)) for n in range(4000)]
        feed.store.revoke("1f")
        look = asyncio.create_task(feed.feed.look())
        done = []
        while not look.done():
            await asyncio.sleep(0)
            done.append(sum(task.done() for task in waiting))
        assert await asyncio.gather(*waiting) == [(1, ["1f"])] * 4000
        assert len(set(done)) > 10
        assert feed.store.reads == 1

    asyncio.run(story())


def test_who_knows_more_waits_for_the_next_step() -> None:
    async def story(feed: Feed) -> None:
        waiting = await feed.waiting(1)
        await feed.revoke("1f")
        await asyncio.sleep(0)
        assert not waiting.done()
        await feed.revoke("20")
        assert await waiting == (2, ["20"])

    told(story)


def test_waiting_ends_without_news() -> None:
    async def story(feed: Feed) -> None:
        assert await feed.since(0, wait_s=RUNS_OUT_S) == (0, [])
        assert not feed.feed._waiting

    told(story)


def test_who_finds_no_seat_is_answered_without_waiting() -> None:
    async def story(feed: Feed) -> None:
        waiting = [await feed.waiting(0, by=by) for by in ("0a", "0b", "0c")]
        assert await feed.since(0, wait_s=PATIENCE_S) == (0, [])
        # Whose client leaves, leaves its seat.
        waiting[0].cancel()
        await asyncio.gather(waiting[0], return_exceptions=True)
        waiting.append(await feed.waiting(0))
        await feed.revoke("1f")
        assert await asyncio.gather(*waiting[1:]) == [(1, ["1f"])] * 3
        assert (feed.feed._seats_taken, feed.feed._seats_of) == (0, {})

    told(story)


def test_one_certificate_has_only_so_many_seats() -> None:
    feed = Feed()
    feed.feed = RevocationFeed(
        feed.store, watching=feed.store, cut_off=feed._cut_off, max_waiters=2 * SEATS_OF_ONE
    )

    async def story() -> None:
        waiting = [await feed.waiting(0) for _ in range(SEATS_OF_ONE)]
        assert await feed.since(0, wait_s=PATIENCE_S) == (0, [])
        waiting.append(await feed.waiting(0, by="0b"))
        await feed.revoke("1f")
        assert len(await asyncio.gather(*waiting)) == SEATS_OF_ONE + 1

    asyncio.run(story())


@pytest.mark.parametrize("since", [0, MAX_REVOCATIONS - 1, MAX_REVOCATIONS, MAX_REVOCATIONS + 5])
def test_however_many_steps_there_were_each_client_goes_on_where_it_was(since: int) -> None:
    count = MAX_REVOCATIONS + 10

    async def story(feed: Feed) -> None:
        serials = [f"1{n:05x}" for n in range(1, count + 1)]
        await feed.revoke(*serials)
        await feed.feed.look()
        assert len(feed.feed._kept) == MAX_REVOCATIONS
        heard: list[str] = []
        after = since
        while after < count:
            after, more = await feed.since(after, wait_s=PATIENCE_S)
            heard += more
        assert heard == serials[since:]

    told(story)


def test_a_client_that_is_ahead_goes_on_from_the_feeds_end() -> None:
    """After a restore from a backup the feed has fewer steps than its clients know."""

    async def story(feed: Feed) -> None:
        await feed.revoke("1f")
        assert await feed.since(9) == (1, [])

    told(story)


def test_a_client_that_heard_from_another_worker_is_not_sent_back() -> None:
    async def story(feed: Feed) -> None:
        feed.store.revoke("1f")
        assert await feed.since(1) == (1, [])
        assert await feed.since(1, wait_s=RUNS_OUT_S) == (1, [])

    told(story)


def test_a_store_that_was_restored_is_followed_from_its_own_end() -> None:
    async def story(feed: Feed) -> None:
        await feed.revoke("1f", "20")
        del feed.store.steps[1:]
        await feed.feed.look()
        await feed.revoke("21")
        assert await feed.since(1, wait_s=PATIENCE_S) == (2, ["21"])

    assert told(story).cut == [0x1F, 0x20, 0x21]


def test_requests_that_fill_the_pool_do_not_hold_up_the_look() -> None:
    class Full(StepsForTests):
        async def revocations_since(self, since: int) -> list[RevocationStep]:
            raise Busy(f"too many reads wait, so what came after {since} is not read")

    feed, full = Feed(), Full()
    full.is_away = True
    feed.feed = RevocationFeed(full, watching=feed.store, cut_off=feed._cut_off, max_waiters=1)

    async def story() -> None:
        waiting = await feed.waiting(0)
        await feed.revoke("1f")
        assert await waiting == (1, ["1f"])
        assert feed.cut == [0x1F]
        with pytest.raises(Busy):
            await feed.since(1)

    asyncio.run(story())


def test_a_store_that_can_not_be_read_is_looked_at_again() -> None:
    async def story(feed: Feed) -> None:
        feed.store.is_away = True
        following = asyncio.create_task(feed.feed.run())
        await until_on_loop(lambda: feed.store.asked >= 2)
        assert not following.done()
        following.cancel()

    told(story)
