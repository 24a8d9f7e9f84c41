"""A pool that blocks nobody: results, errors, a bound, and a caller that leaves."""

from __future__ import annotations

import asyncio
import threading

import pytest

from ostiary.errors import Busy, NotFound
from ostiary.front.offload import Offload
from tests.support.waiting import PATIENCE_S


def fail() -> None:
    raise NotFound("nothing there")


def test_what_a_call_returns_or_raises_comes_back() -> None:
    async def story() -> None:
        offload = Offload(threads=1)
        assert await offload.run(pow, 2, 10) == 1024
        with pytest.raises(NotFound, match="nothing there"):
            await offload.run(fail)
        offload.close()

    asyncio.run(story())


def test_it_runs_beside_the_loop() -> None:
    async def story() -> None:
        offload, goes_on = Offload(threads=1), threading.Event()
        call = asyncio.create_task(offload.run(goes_on.wait, PATIENCE_S))
        await asyncio.sleep(0)
        goes_on.set()  # the loop gets here although the call waits
        assert await call
        offload.close()

    asyncio.run(story())


def test_one_too_many_is_busy_until_another_ends() -> None:
    async def story() -> None:
        offload, goes_on = Offload(threads=1, waiting=1), threading.Event()
        calls = [asyncio.create_task(offload.run(goes_on.wait, PATIENCE_S)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(Busy):
            await offload.run(pow, 2, 2)
        goes_on.set()
        await asyncio.gather(*calls)
        assert await offload.run(pow, 2, 2) == 4
        offload.close()

    asyncio.run(story())


def test_a_call_counts_until_it_ends_though_its_caller_left() -> None:
    async def story() -> None:
        offload, goes_on = Offload(threads=1, waiting=0), threading.Event()
        call = asyncio.create_task(offload.run(goes_on.wait, PATIENCE_S))
        await asyncio.sleep(0.01)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        with pytest.raises(Busy):
            await offload.run(pow, 2, 2)
        goes_on.set()
        while True:
            try:
                assert await offload.run(pow, 2, 2) == 4
            except Busy:
                await asyncio.sleep(0.001)
            else:
                break
        offload.close()

    asyncio.run(story())
