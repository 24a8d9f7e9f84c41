"""Claims that wait: how many may, and who wakes them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from certmgr.waiting_claims import MAX_WAITING, MAX_WAITING_OF_USER, WaitingClaims
from ostiary.errors import Busy

A, B = "agent-a", "agent-b"


def on_a_loop(act: Callable[[WaitingClaims], None]) -> None:
    async def run() -> None:
        act(WaitingClaims())

    asyncio.run(run())


def test_news_of_an_agent_wake_all_its_claims_and_no_other() -> None:
    async def story() -> None:
        claims = WaitingClaims()
        first, second, other = claims.enter(A, 1), claims.enter(A, 2), claims.enter(B, 1)
        await asyncio.to_thread(claims.tell, A)
        await asyncio.to_thread(claims.tell, A)  # told twice before anybody looked
        await asyncio.wait([first, second])
        assert not other.done()

    asyncio.run(story())


def test_a_claim_that_was_given_up_is_told_nothing() -> None:
    async def story() -> None:
        claims = WaitingClaims()
        news = claims.enter(A, 1)
        claims.tell(A)
        news.cancel()
        claims.leave(A, 1, news)
        claims.tell(A)
        await asyncio.sleep(0)
        assert news.cancelled()

    asyncio.run(story())


def test_a_user_takes_a_share_and_leaves_it_again() -> None:
    def act(claims: WaitingClaims) -> None:
        news = [claims.enter(A, 1) for _ in range(MAX_WAITING_OF_USER)]
        with pytest.raises(Busy):
            claims.enter(B, 1)
        claims.leave(B, 2, claims.enter(B, 2))
        claims.leave(A, 1, news[0])
        claims.enter(B, 1)

    on_a_loop(act)


def test_all_users_together_have_a_bound_too() -> None:
    def act(claims: WaitingClaims) -> None:
        for number in range(MAX_WAITING):
            claims.enter(A, number // MAX_WAITING_OF_USER)
        with pytest.raises(Busy):
            claims.enter(B, MAX_WAITING)

    on_a_loop(act)


def test_news_after_the_loop_has_ended_are_dropped() -> None:
    claims = WaitingClaims()

    async def wait() -> None:
        claims.enter(A, 1)

    asyncio.run(wait())
    claims.tell(A)
