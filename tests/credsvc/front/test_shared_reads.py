"""Reads that are shared: one at a time, nobody's own, and never awaited without end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from credsvc.front import shared_reads
from credsvc.front.shared_reads import SharedReads
from ostiary.errors import Busy
from tests.support.waiting import PATIENCE_S


class Store:
    """Reads that end when told; `begun` counts them."""

    def __init__(self) -> None:
        self.begun = 0
        self.reads = SharedReads()
        self.end = asyncio.Event()

    async def read(self) -> int:
        self.begun += 1
        number = self.begun
        await self.end.wait()
        return number

    def ask(self) -> asyncio.Task[int]:
        return asyncio.create_task(self.reads.read("a", self.read))

    def ask_anew(self) -> asyncio.Task[int]:
        return asyncio.create_task(self.reads.read_anew("a", self.read))


def on_loop(story: Callable[[Store], Coroutine[Any, Any, None]]) -> None:
    async def tell() -> None:
        await asyncio.wait_for(story(Store()), PATIENCE_S)

    asyncio.run(tell())


async def turns() -> None:
    """Let everything go as far as it can."""
    for _ in range(10):
        await asyncio.sleep(0)


def test_who_needs_the_same_shares_a_read() -> None:
    async def story(store: Store) -> None:
        asked = [store.ask() for _ in range(3)]
        await turns()
        assert (store.begun, store.reads.is_under_way("a")) == (1, True)
        store.end.set()
        assert [await task for task in asked] == [1, 1, 1]
        assert not store.reads.is_under_way("a")
        assert await store.ask() == 2

    on_loop(story)


def test_a_read_goes_on_without_the_one_who_began_it() -> None:
    async def story(store: Store) -> None:
        first, second = store.ask(), store.ask()
        await turns()
        first.cancel()
        await turns()
        store.end.set()
        assert await second == 1

    on_loop(story)


def test_a_read_that_nobody_waits_for_any_more_is_no_error_of_the_loops() -> None:
    async def story(store: Store) -> None:
        escaped: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: escaped.append(context))

        async def fail() -> int:
            await store.end.wait()
            raise Busy("the store is away")

        waiting = asyncio.create_task(store.reads.read("a", fail))
        await turns()
        waiting.cancel()
        await turns()
        store.end.set()
        await turns()
        assert not store.reads.is_under_way("a")
        assert not escaped

    on_loop(story)


def test_a_failure_is_everybodys_who_waits_and_nobodys_after() -> None:
    async def story(store: Store) -> None:
        async def fail() -> int:
            await store.end.wait()
            raise Busy("the store is away")

        asked = [asyncio.create_task(store.reads.read("a", fail)) for _ in range(2)]
        await turns()
        store.end.set()
        for task in asked:
            with pytest.raises(Busy):
                await task
        assert await store.ask() == 1

    on_loop(story)


def test_what_must_begin_after_now_waits_for_what_began_before() -> None:
    async def story(store: Store) -> None:
        old = store.ask()
        await turns()
        new = [store.ask_anew() for _ in range(3)]
        await turns()
        assert store.begun == 1
        store.end.set()
        assert await old == 1
        # One for all of them: none had begun when it was asked for.
        assert [await task for task in new] == [2, 2, 2]
        assert await store.ask_anew() == 3

    on_loop(story)


def test_what_must_begin_after_now_begins_though_what_began_before_fails() -> None:
    async def story(store: Store) -> None:
        async def fail() -> int:
            await store.end.wait()
            raise Busy("the store is away")

        old = asyncio.create_task(store.reads.read("a", fail))
        await turns()
        new = store.ask_anew()
        await turns()
        store.end.set()
        with pytest.raises(Busy):
            await old
        assert await new == 1

    on_loop(story)


def test_a_store_that_hangs_holds_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_reads, "PATIENCE_S", 0.01)

    async def story(store: Store) -> None:
        for task in (store.ask(), store.ask(), store.ask_anew()):
            with pytest.raises(Busy, match="does not answer"):
                await task
        assert store.begun == 1
        store.end.set()
        await turns()

    on_loop(story)
