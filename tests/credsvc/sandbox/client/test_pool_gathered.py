"""Calls of several callers in one request: each gets its own answer, whatever the others do to the worker."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from credsvc.sandbox.client import pool as pool_module
from credsvc.sandbox.client.decode import HoleProposal
from credsvc.sandbox.client.faults import Fault, SandboxFault
from credsvc.sandbox.client.gather import LEARN_EVERY
from credsvc.sandbox.client.link import Link
from tests.support.sandbox_stack import Stack, module, running
from tests.support.unruly_module import FAULTS, SOURCE
from tests.support.waiting import PATIENCE_S, RUNS_OUT_S

QUICK = module(SOURCE)


@pytest.fixture
def stack() -> Iterator[Stack]:
    with running(max_workers=2) as made:
        yield made


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many calls each request carries, the load's included."""
    asked: list[int] = []
    ask = Link.ask

    def ask_and_count(link: Link, *args: Any, count: int = 1, **kwargs: Any) -> Any:
        asked.append(count)
        return ask(link, *args, count=count, **kwargs)

    monkeypatch.setattr(Link, "ask", ask_and_count)
    return asked


async def ask(stack: Stack, n: int, does: str = "", *, deadline_s: float = PATIENCE_S) -> HoleProposal:
    return await stack.sandbox.run(QUICK, "sign", {"n": n, "does": does}, deadline_s)


async def known(stack: Stack) -> None:
    """As many calls as it takes to know that the module is quick."""
    for n in range(2 * LEARN_EVERY):
        await ask(stack, n)


async def check_all(stack: Stack, does: dict[int, str], *, count: int = 40) -> None:
    """So many callers at once, each with what it asked for and nothing of another."""
    asked = [ask(stack, n, does.get(n, ""), deadline_s=_time_for(does.get(n, ""))) for n in range(count)]
    for n, answer in enumerate(await asyncio.gather(*asked, return_exceptions=True)):
        if n in does:
            assert isinstance(answer, SandboxFault)
            # One that loops may have spent its time waiting for the other that does.
            assert answer.fault is FAULTS[does[n]] or (does[n], answer.fault) == ("loop", Fault.FULL)
        else:
            assert isinstance(answer, HoleProposal)
            assert answer.holes == {"n": n, "calls": 1}


def _time_for(does: str) -> float:
    return RUNS_OUT_S if does == "loop" else PATIENCE_S


def test_callers_at_the_same_time_share_requests(stack: Stack, counts: list[int]) -> None:
    async def story() -> None:
        await known(stack)
        assert set(counts) == {1}  # one after the other
        counts.clear()
        await check_all(stack, {})

    stack.pool.wait(story())
    assert sum(counts) - 40 in {0, 1}  # the second worker's load
    assert len(counts) < 20


@pytest.mark.parametrize("bad", ["raise", "exhaust", "loop", "much", "nonsense"])
def test_what_one_does_is_its_own_affair(stack: Stack, bad: str) -> None:
    async def story() -> None:
        await known(stack)
        for place in (0, 1, 20, 39):
            await check_all(stack, {place: bad})

    stack.pool.wait(story())


def test_many_bad_ones(stack: Stack) -> None:
    async def story() -> None:
        await known(stack)
        await check_all(stack, {3: "loop", 4: "raise", 5: "exhaust", 20: "loop", 21: "much", 33: "nonsense"})

    stack.pool.wait(story())


def test_one_that_hangs_keeps_nobody_waiting(stack: Stack) -> None:
    async def story() -> None:
        await known(stack)
        hanging = asyncio.create_task(ask(stack, 0, "loop"))
        await asyncio.sleep(0)
        for _ in range(3):
            await check_all(stack, {})
        assert not hanging.done()
        hanging.cancel()

    stack.pool.wait(story())


def test_cancelled_callers_cost_the_others_nothing(stack: Stack, counts: list[int]) -> None:
    async def story() -> None:
        await known(stack)
        for turns in range(8):
            asked = [asyncio.create_task(ask(stack, n)) for n in range(12)]
            for _ in range(turns):
                await asyncio.sleep(0.0005)
            for task in asked[::2]:
                task.cancel()
            answers = await asyncio.gather(*asked, return_exceptions=True)
            for n, answer in enumerate(answers):
                assert isinstance(answer, HoleProposal | asyncio.CancelledError)
                if isinstance(answer, HoleProposal):
                    assert answer.holes == {"n": n, "calls": 1}
            assert all(isinstance(answer, HoleProposal) for answer in answers[1::2])

    stack.pool.wait(story())


def test_a_short_deadline_is_its_callers(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls go together until the first deadline among them, and those that have more time go on alone."""
    monkeypatch.setattr(pool_module, "ITEM_S", PATIENCE_S)
    monkeypatch.setattr(Link, "_late", lambda link: link._deadline)

    async def story() -> None:
        await known(stack)
        asked = [ask(stack, n, deadline_s=RUNS_OUT_S if n == 5 else PATIENCE_S) for n in range(8)]
        looping = asyncio.create_task(ask(stack, 99, "loop", deadline_s=3 * RUNS_OUT_S))
        answers = await asyncio.gather(*asked, return_exceptions=True)
        for n in {*range(8)} - {5}:
            assert isinstance(answers[n], HoleProposal)
        with pytest.raises(SandboxFault) as late:
            await looping
        assert late.value.fault is Fault.TIMEOUT

    stack.pool.wait(story())


def test_closing_tells_those_who_wait_for_each_other(stack: Stack) -> None:
    async def story() -> None:
        await known(stack)
        asked = [asyncio.create_task(ask(stack, n, "" if n else "loop")) for n in range(5)]
        await asyncio.sleep(0)
        await stack.sandbox.close()
        for task in asked:
            with pytest.raises(SandboxFault) as refused:
                await task
            assert refused.value.fault is Fault.UNAVAILABLE

    stack.pool.wait(story())


def test_a_zygote_that_goes_is_nobodys_fault(stack: Stack) -> None:
    async def story() -> None:
        await known(stack)
        asked = [asyncio.create_task(ask(stack, n, "loop")) for n in range(5)]
        await asyncio.sleep(0)
        stack.process.kill()
        stack.process.wait()
        for task in asked:
            with pytest.raises(SandboxFault) as refused:
                await task
            assert refused.value.fault is Fault.UNAVAILABLE

    stack.pool.wait(story())


def test_no_more_entries_are_remembered_than_the_bound(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "_MAX_CROWDS", 2)
    for n in range(5):
        entry = f"sign{n}"
        other = module(SOURCE.replace("sign", entry))
        assert stack.pool.run(other, entry, {"n": n, "does": ""}, PATIENCE_S).holes["n"] == n
    assert len(stack.sandbox._crowds) <= 2
