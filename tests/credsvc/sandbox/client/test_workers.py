"""Calls that wait, and calls that are cancelled: nobody gets another's answer, and no place is lost."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from credsvc.sandbox.client import workers as workers_module
from credsvc.sandbox.client.decode import HoleProposal
from credsvc.sandbox.client.faults import Fault, SandboxFault, SourceRefused
from tests.support.sandbox_stack import Stack, module, running, wait_gone
from tests.support.waiting import PATIENCE_S, RUNS_OUT_S, until

ECHO = """
def sign(n):
    return {"formula": "echo", "holes": {"n": n}}
"""
SLOW = """
def sign(n):
    for i in range(n):
        x = i
    return {"formula": "slow", "holes": {}}
"""
LOOP = "def sign(n):\n    while True:\n        pass\n"
# Rounds that a test can see being run, and far fewer than its deadline has time for.
SOME = 2_000_000


@pytest.fixture
def stack() -> Iterator[Stack]:
    """A pool of one worker."""
    with running(max_workers=1) as made:
        yield made


def ask(
    stack: Stack, source: str, *, n: int = 1, deadline_s: float = PATIENCE_S
) -> Coroutine[Any, Any, HoleProposal]:
    return stack.sandbox.run(module(source), "sign", {"n": n}, deadline_s)


async def fault_of(asked: Coroutine[Any, Any, HoleProposal] | asyncio.Task[HoleProposal]) -> Fault:
    with pytest.raises(SandboxFault) as caught:
        await asked
    return caught.value.fault


async def started(asked: Coroutine[Any, Any, HoleProposal]) -> asyncio.Task[HoleProposal]:
    """A call that has come as far as it can without the loop."""
    task = asyncio.create_task(asked)
    await asyncio.sleep(0)
    return task


async def cancelled(task: asyncio.Task[HoleProposal]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@contextmanager
def zygote_stopped(stack: Stack) -> Iterator[None]:
    stack.process.send_signal(signal.SIGSTOP)
    os.waitpid(stack.process.pid, os.WUNTRACED)  # until it stands still
    try:
        yield
    finally:
        stack.process.send_signal(signal.SIGCONT)


def test_the_loop_turns_while_a_module_runs(stack: Stack) -> None:
    async def story() -> None:
        await ask(stack, SLOW)
        slow = await started(ask(stack, SLOW, n=SOME))
        turns = 0
        while not slow.done():
            await asyncio.sleep(0)
            turns += 1
        assert turns > 100  # while it ran, and nothing else was there to wake the loop
        await slow

    stack.pool.wait(story())


def test_calls_that_wait_are_served_in_turn(stack: Stack) -> None:
    served: list[int] = []

    async def one(n: int) -> None:
        await ask(stack, ECHO, n=n)
        served.append(n)

    async def story() -> None:
        await asyncio.gather(*[one(n) for n in range(20)])

    stack.pool.wait(story())
    assert served == list(range(20))


def test_no_more_calls_wait_than_the_bound(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers_module, "MAX_WAITING", 2)

    async def story() -> None:
        runs = [await started(ask(stack, ECHO, n=n)) for n in range(3)]
        assert await fault_of(ask(stack, ECHO)) is Fault.FULL
        assert [(await run).holes["n"] for run in runs] == [0, 1, 2]

    stack.pool.wait(story())


@pytest.mark.parametrize(
    ("turn_s", "served"), [(PATIENCE_S, ["1", "2", "3", "other"]), (0.0, ["1", "other", "2", "3"])]
)
def test_a_freed_worker_goes_to_its_own_module_for_a_while(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, turn_s: float, served: list[str]
) -> None:
    monkeypatch.setattr(workers_module, "_TURN_S", turn_s)
    order: list[str] = []

    async def one(source: str, name: str) -> None:
        await ask(stack, source)
        order.append(name)

    async def story() -> None:
        await ask(stack, ECHO)
        await asyncio.gather(one(ECHO, "1"), one(ECHO + "#\n", "other"), one(ECHO, "2"), one(ECHO, "3"))

    stack.pool.wait(story())
    assert order == served


def test_a_cancelled_callers_answer_reaches_nobody_and_its_worker_stays(stack: Stack) -> None:
    async def story() -> None:
        await ask(stack, SLOW)
        await asyncio.to_thread(stack.settle, 2)
        before = stack.workers()
        for n in range(20):
            await cancelled(await started(ask(stack, SLOW, n=SOME // 10)))
            assert (await ask(stack, SLOW, n=n)).formula == "slow"
        assert stack.workers() == before

    stack.pool.wait(story())


@pytest.mark.parametrize("turns", range(1, 8))
def test_cancelled_at_any_turn_of_the_loop(stack: Stack, turns: int) -> None:
    """Spawning, loading, running, waiting: the place comes back, and the next call is answered."""

    async def story() -> None:
        for n in range(10):
            source = ECHO + f"# {turns} {n % 3}\n"
            runs = [await started(ask(stack, source, n=100)) for _ in range(3)]
            for _ in range(turns):
                await asyncio.sleep(0.002)
            for run in runs:
                run.cancel()
            await asyncio.gather(*runs, return_exceptions=True)
            assert (await ask(stack, source, n=n)).holes == {"n": n}
        assert stack.sandbox._workers._count == 1

    stack.pool.wait(story())


def test_a_cancelled_callers_loop_is_killed_at_its_deadline(stack: Stack) -> None:
    async def story() -> None:
        await cancelled(await started(ask(stack, LOOP, deadline_s=RUNS_OUT_S)))
        assert (await ask(stack, ECHO, n=5)).holes == {"n": 5}

    stack.pool.wait(story())


def test_a_cancelled_check_leaves_no_worker_that_counts_as_loaded(stack: Stack) -> None:
    async def story() -> None:
        for _ in range(3):
            check = asyncio.create_task(stack.sandbox.check_source(ECHO))
            await asyncio.sleep(0.003)
            check.cancel()
            with pytest.raises(SourceRefused):
                await stack.sandbox.check_source("import os\n")

    stack.pool.wait(story())


def test_a_zygote_that_is_late_costs_only_the_call_that_needs_it() -> None:
    async def story(stack: Stack) -> None:
        await ask(stack, ECHO)
        with zygote_stopped(stack):
            assert await fault_of(ask(stack, LOOP, deadline_s=RUNS_OUT_S)) is Fault.UNAVAILABLE
            assert (await ask(stack, ECHO, n=2)).holes == {"n": 2}
        # The worker that was made for nobody is ended, and its place is free again.
        await asyncio.to_thread(stack.settle, 2)
        assert await fault_of(ask(stack, LOOP, deadline_s=RUNS_OUT_S)) is Fault.TIMEOUT
        assert (await ask(stack, ECHO, n=3)).holes == {"n": 3}

    with running(max_workers=2) as stack:
        stack.pool.wait(story(stack))


def test_an_idle_worker_that_ends_is_noticed_before_anybody_asks(stack: Stack) -> None:
    async def story() -> None:
        await ask(stack, ECHO)
        await asyncio.to_thread(stack.settle, 2)
        for worker in stack.workers():
            os.kill(worker, signal.SIGKILL)
            wait_gone(worker)
        await asyncio.to_thread(until, lambda: stack.sandbox._workers._count == 0, "its place")

    stack.pool.wait(story())


def test_closing_tells_those_who_wait(stack: Stack) -> None:
    async def story() -> None:
        running_, waiting = await started(ask(stack, LOOP)), await started(ask(stack, ECHO))
        await asyncio.to_thread(until, lambda: len(stack.workers()) > 1, "the worker")
        await stack.sandbox.close()
        assert await fault_of(running_) is Fault.UNAVAILABLE
        assert await fault_of(waiting) is Fault.UNAVAILABLE
        assert await fault_of(ask(stack, ECHO)) is Fault.UNAVAILABLE

    stack.pool.wait(story())
