"""The store is read beside the loop, and only where nothing is remembered."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from sqlalchemy import event

from ca.certificates.shards import Shard, ShardNumber
from ca.front import store_reads
from ca.front.store_reads import SHARD_MEMORY_S, StoreReads
from ca.store.reader import StoreReader
from ostiary.errors import Busy
from ostiary.front.offload import Offload
from tests.support.ca_front import FrontForTests
from tests.support.certificates import NOW
from tests.support.waiting import RUNS_OUT_S, until_on_loop


@pytest.fixture
def front(tmp_path: Path) -> FrontForTests:
    return FrontForTests(tmp_path)


@pytest.fixture
def statements(front: FrontForTests) -> list[tuple[str, int]]:
    """What the store was asked, and on which thread."""
    asked: list[tuple[str, int]] = []

    @event.listens_for(front.reader.engine, "before_cursor_execute")
    def _note(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        asked.append((statement, threading.get_ident()))

    return asked


def test_rows_are_those_of_the_reader_from_another_thread(
    front: FrontForTests, statements: list[tuple[str, int]]
) -> None:
    token, holder = front.token(), front.holder()
    expected: tuple[Any, ...] = (front.reader.token(token.id), front.reader.certificate(holder.serial), 0, [])
    statements.clear()

    async def story() -> tuple[Any, ...]:
        reads = front.reads
        return (
            await reads.token(token.id),
            await reads.certificate(holder.serial),
            await reads.last_revocation(),
            await reads.revocations_since(0),
        )

    assert asyncio.run(story()) == expected
    assert len(statements) == 4
    assert threading.get_ident() not in {thread for _, thread in statements}


# --- the open shard ---


def test_the_open_shard_is_read_once_for_all_who_need_it(
    front: FrontForTests, statements: list[tuple[str, int]]
) -> None:
    async def story() -> list[int]:
        return await asyncio.gather(*(front.reads.shard_for_new(NOW) for _ in range(20)))

    assert asyncio.run(story()) == [1] * 20
    assert len(statements) == 1


def test_a_remembered_shard_takes_no_turn_of_the_loop(front: FrontForTests) -> None:
    number = asyncio.run(front.reads.shard_for_new(NOW))
    with pytest.raises(StopIteration) as returned:
        front.reads.shard_for_new(NOW).send(None)
    assert returned.value.value == number


@dataclass
class Shards:
    """A store whose open shard changes."""

    number: int = 1
    asked: int = 0

    def open_shard(self, now: datetime) -> Shard:
        self.asked += 1
        return Shard(number=ShardNumber(self.number), opened_at=now, count=0)


class Reads(StoreReads):
    """Reads of those shards, one after the other."""

    def __init__(self) -> None:
        self.shards = Shards()
        self.offload = Offload(threads=1)
        super().__init__(cast("StoreReader", self.shards), self.offload)


@pytest.fixture
def reads() -> Iterator[Reads]:
    made = Reads()
    yield made
    made.offload.close()


def test_the_open_shard_is_remembered_for_a_moment(reads: Reads) -> None:
    seen = []
    for moments in (0, 0.5, 2):
        seen.append(asyncio.run(reads.shard_for_new(NOW + timedelta(seconds=moments * SHARD_MEMORY_S))))
        reads.shards.number = 2
    assert seen == [1, 1, 2]


def test_a_shard_that_was_said_to_be_full_is_asked_for_again(reads: Reads) -> None:
    assert asyncio.run(reads.shard_for_new(NOW)) == 1
    reads.shards.number = 2
    reads.forget_shard()
    assert asyncio.run(reads.shard_for_new(NOW)) == 2


def test_what_was_read_before_it_was_said_to_be_full_is_not_remembered(reads: Reads) -> None:
    async def story() -> list[int]:
        under_way = asyncio.create_task(reads.shard_for_new(NOW))
        await until_on_loop(lambda: reads.shards.asked)
        reads.shards.number = 2
        reads.forget_shard()
        fresh = asyncio.create_task(reads.shard_for_new(NOW))
        return [await under_way, await fresh, await reads.shard_for_new(NOW)]

    assert asyncio.run(story()) == [1, 2, 2]


def test_a_clock_that_was_set_back_keeps_no_shard(reads: Reads) -> None:
    assert asyncio.run(reads.shard_for_new(NOW + timedelta(hours=5))) == 1
    reads.shards.number = 2
    assert asyncio.run(reads.shard_for_new(NOW)) == 2


# --- a store that does not answer ---


class _Stuck:
    """A store that does not answer until it is told."""

    def __init__(self) -> None:
        self.told = threading.Event()

    def last_revocation(self) -> int:
        self.told.wait()
        return 7


def test_a_store_that_does_not_answer_is_busy_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_reads, "READ_S", RUNS_OUT_S)
    stuck: Any = _Stuck()
    offload = Offload(threads=1)
    reads = StoreReads(stuck, offload)
    with pytest.raises(Busy, match="does not answer in time"):
        asyncio.run(reads.last_revocation())
    stuck.told.set()
    assert asyncio.run(reads.last_revocation()) == 7
    offload.close()
