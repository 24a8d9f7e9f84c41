"""Following the feed: what is known, how old it is, who is cut off, and that ignorance refuses."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest

from credsvc.front.revocations import Page, Revocations, RevokedCertificate
from ostiary.errors import BadInput, Busy


class ScriptedFeed:
    """Answers from a list; an exception in it is raised; cancels its follower at the end."""

    def __init__(self, *answers: Page | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[int, int]] = []

    async def __call__(self, *, since: int, wait_s: int) -> Page:
        self.asked.append((since, wait_s))
        if not self.answers:
            raise asyncio.CancelledError
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def page(next_: int, *serials: str) -> Page:
    return Page(next=next_, revoked=tuple(RevokedCertificate(serial) for serial in serials))


class Known:
    def __init__(self) -> None:
        self.now_s = 100.0
        self.cut: list[set[int]] = []
        self.revocations = Revocations(monotonic_s=lambda: self.now_s, cut_off=self._cut_off)

    def _cut_off(self, serial_numbers: Iterable[int]) -> None:
        found = set(serial_numbers)
        assert all(map(self.revocations.is_revoked, found)), "known first, cut off second"
        self.cut.append(found)

    def poll(self, feed: ScriptedFeed) -> None:
        asyncio.run(self.revocations.poll(feed))


def test_nothing_is_known_until_an_answer_without_news() -> None:
    known = Known()
    assert known.revocations.age_s() is None
    feed = ScriptedFeed(page(2, "0a", "0b"), page(2))
    known.poll(feed)
    assert known.revocations.age_s() is None
    assert known.revocations.is_revoked(10)
    known.poll(feed)
    assert known.revocations.age_s() == 0
    assert feed.asked == [(0, 0), (2, 0)]
    known.now_s += 7.9
    assert known.revocations.age_s() == 7


def test_news_cuts_off_once() -> None:
    known = Known()
    feed = ScriptedFeed(page(1, "0a"), page(2, "0a", "0b"), page(2))
    for _ in range(3):
        known.poll(feed)
    assert known.cut == [{10}, {11}]
    assert not known.revocations.is_revoked(12)


def test_with_nothing_new_it_waits_at_the_ca() -> None:
    known = Known()
    feed = ScriptedFeed(page(0), page(1, "0a"), page(1), page(1))
    for _ in range(4):
        known.poll(feed)
    assert feed.asked == [(0, 0), (0, 5), (1, 0), (1, 5)]


def test_a_silent_ca_makes_knowledge_old_and_keeps_it() -> None:
    known = Known()
    known.poll(ScriptedFeed(page(1, "0a")))
    feed = ScriptedFeed(page(1), Busy("away"), Busy("away"))
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(known.revocations.follow(feed))
    known.now_s += 60
    assert known.revocations.age_s() == 60
    assert known.revocations.is_revoked(10)
    assert len(feed.asked) == 4


def test_a_serial_that_is_none_is_refused() -> None:
    known = Known()
    with pytest.raises(BadInput):
        known.poll(ScriptedFeed(page(1, "0A")))
    assert known.revocations.age_s() is None
