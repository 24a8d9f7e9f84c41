"""Batches: each item has its own answer, globals, time and fault, whatever the others do to their worker."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from credsvc.sandbox.client import pool as pool_module
from credsvc.sandbox.client.decode import HoleProposal
from credsvc.sandbox.client.faults import Fault, SandboxBroken, SandboxBusy, SandboxFault
from credsvc.sandbox.client.link import Link
from tests.support.sandbox_stack import Stack, module, running
from tests.support.unruly_module import FAULTS, SOURCE
from tests.support.waiting import PATIENCE_S, RUNS_OUT_S, at_least

Results = list[HoleProposal | SandboxFault]


@pytest.fixture
def stack() -> Iterator[Stack]:
    with running(max_workers=2) as made:
        yield made


def items(does: dict[int, str], count: int) -> list[dict[str, Any]]:
    return [{"n": n, "does": does.get(n, "")} for n in range(count)]


async def ask(
    stack: Stack, arguments: list[dict[str, Any]], *, deadline_s: float = PATIENCE_S, source: str = SOURCE
) -> Results:
    return await stack.sandbox.run_many(module(source), "sign", arguments, deadline_s)


def run(stack: Stack, does: dict[int, str], count: int = 40) -> Results:
    return stack.pool.wait(ask(stack, items(does, count)))


def check(results: Results, does: dict[int, str], count: int = 40) -> None:
    """Each item has what it asked for, and nothing of another."""
    expected = [FAULTS.get(does.get(n, ""), n) for n in range(count)]
    found = [each.fault if isinstance(each, SandboxFault) else each.holes["n"] for each in results]
    assert found == expected
    for result in results:
        if isinstance(result, HoleProposal):
            assert result.holes.get("calls", 1) == 1  # globals of its own


def test_a_batch_is_answered_in_order_by_one_worker_that_stays(stack: Stack) -> None:
    for _ in range(3):
        check(run(stack, {}, 256), {}, 256)
    stack.settle(2)  # the worker and the spare
    before = stack.workers()
    check(run(stack, {}, 256), {}, 256)
    assert stack.workers() == before


def test_an_exception_is_one_items(stack: Stack) -> None:
    run(stack, {})
    stack.settle(2)
    before = stack.workers()
    does = {0: "raise", 7: "raise", 39: "raise"}
    check(run(stack, does), does)
    assert stack.workers() == before


@pytest.mark.parametrize("bad", ["exhaust", "loop", "much", "nonsense"])
@pytest.mark.parametrize("place", [0, 20, 39])
def test_an_item_that_ends_its_worker_takes_no_other_with_it(stack: Stack, bad: str, place: int) -> None:
    does = {place: bad, (place + 5) % 40: "raise"}
    check(run(stack, does), does)
    check(run(stack, {}), {})


def test_many_items_that_end_their_workers(stack: Stack) -> None:
    does = {3: "loop", 4: "exhaust", 5: "nonsense", 11: "loop", 12: "much", 30: "loop"}
    check(run(stack, does), does)


def test_large_answers_and_large_requests(stack: Stack) -> None:
    does = dict.fromkeys(range(0, 40, 3), "large")
    check(run(stack, does), does)
    arguments = [{"n": n, "does": "", "pad": "x" * 50_000} for n in range(7)]
    arguments[3]["pad"] = "x" * 200_000
    source = SOURCE.replace("def sign(n, does)", "def sign(n, does, pad)")
    results = stack.pool.wait(ask(stack, arguments, source=source))
    found = [each.fault if isinstance(each, SandboxFault) else each.holes["n"] for each in results]
    assert found == [0, 1, 2, Fault.REQUEST_TOO_LARGE, 4, 5, 6]


def test_an_items_time_is_its_workers_and_not_the_clocks(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that does not get a core is not late; one that runs is."""
    run(stack, {})
    monkeypatch.setattr(pool_module, "ITEM_S", 0.001)
    monkeypatch.setattr(Link, "cpu_s", lambda _link: 0.0)
    check(run(stack, {}), {})
    monkeypatch.undo()
    check(run(stack, {20: "loop"}), {20: "loop"})


def test_the_batch_ends_at_its_deadline(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "ITEM_S", PATIENCE_S)
    monkeypatch.setattr(Link, "_late", lambda link: link._deadline)
    run(stack, {})
    with at_least(RUNS_OUT_S):
        results = stack.pool.wait(ask(stack, items({10: "loop"}, 40), deadline_s=RUNS_OUT_S))
    late = [isinstance(each, SandboxFault) and each.fault is Fault.TIMEOUT for each in results]
    assert late[10:] == [True] * 30  # nothing was run again after the deadline
    check(run(stack, {}), {})


def test_without_a_worker_there_is_one_fault(stack: Stack) -> None:
    with pytest.raises(SandboxBroken) as refused:
        stack.pool.wait(ask(stack, items({}, 3), source="import os\n"))
    assert refused.value.fault is Fault.NOT_LOADED
    stack.process.kill()
    stack.process.wait()
    with pytest.raises(SandboxBusy) as busy:
        stack.pool.wait(ask(stack, items({}, 3)))
    assert busy.value.fault is Fault.UNAVAILABLE


def test_no_items_need_no_worker(stack: Stack) -> None:
    assert stack.pool.wait(ask(stack, [])) == []
    stack.settle(1)


def test_a_cancelled_batch_reaches_nobody(stack: Stack) -> None:
    async def story() -> None:
        for turn in range(10):
            batch = asyncio.create_task(ask(stack, items({25: "loop" if turn % 2 else ""}, 50)))
            await asyncio.sleep(0.001 * turn)
            batch.cancel()
            await asyncio.gather(batch, return_exceptions=True)
            check(await ask(stack, items({3: "raise"}, 40)), {3: "raise"})

    stack.pool.wait(story())


def test_batches_and_calls_side_by_side(stack: Stack) -> None:
    async def one(n: int) -> None:
        proposal = await stack.sandbox.run(module(SOURCE), "sign", {"n": n, "does": ""}, PATIENCE_S)
        assert proposal.holes == {"n": n, "calls": 1}

    async def many() -> None:
        check(await ask(stack, items({9: "raise"}, 40)), {9: "raise"})

    async def story() -> None:
        await asyncio.gather(*[many() if n % 3 else one(n) for n in range(30)])

    stack.pool.wait(story())
