"""A row is kept for a moment and no longer; what changed meanwhile shows by then, and what is not active at
once.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from ca.front.recent import MAX_ROWS, RECENT_S, RecentRows
from ca.recorder.issuing import first_certificate
from ca.store.rows import CertificateRow
from ostiary.errors import Busy
from ostiary.timestamp import EpochSeconds
from tests.support.ca_authority import AuthorityForTests
from tests.support.still_clock import ClockForTests

ROW = first_certificate(AuthorityForTests().prepared(), now_s=EpochSeconds(1), lifetime_s=7200)


@dataclass
class Rows:
    """A store's rows, and which of them were read."""

    rows: dict[str, CertificateRow] = field(default_factory=lambda: {ROW.serial: ROW})
    clock: ClockForTests = field(default_factory=ClockForTests)
    reads: list[str] = field(default_factory=list)
    is_slow: bool = False

    def __post_init__(self) -> None:
        self.recent = RecentRows(self.read, monotonic_ns=self.clock.monotonic_ns)

    async def read(self, serial: str) -> CertificateRow | None:
        self.reads.append(serial)
        found = self.rows.get(serial)
        if self.is_slow:
            await asyncio.sleep(0)
        return found

    def change(self, **changes: Any) -> None:
        self.rows[ROW.serial] = replace(self.rows[ROW.serial], **changes)

    def row(self, serial: str = ROW.serial) -> CertificateRow | None:
        return asyncio.run(self.recent.certificate(serial))

    def status(self) -> str:
        row = self.row()
        return "none" if row is None else row.status


def test_it_is_read_once_a_moment() -> None:
    store = Rows()
    for _ in range(25):
        assert store.row() is ROW
        store.clock.later(seconds=RECENT_S / 10)
    assert len(store.reads) == 3


def test_a_kept_row_takes_no_turn_of_the_loop() -> None:
    store = Rows()
    assert store.row() is ROW
    with pytest.raises(StopIteration) as returned:
        store.recent.certificate(ROW.serial).send(None)
    assert returned.value.value is ROW


@pytest.mark.parametrize("status", ["revoked", "superseded"])
def test_an_end_shows_after_a_moment_however_often_it_was_asked(status: str) -> None:
    store = Rows()
    assert store.status() == "active"
    store.change(status=status)
    seen = []
    for _ in range(9):
        seen.append(store.status())
        store.clock.later(seconds=RECENT_S / 8)
    assert seen == ["active"] * 8 + [status]


@pytest.mark.parametrize("status", ["pending", "superseded", "revoked"])
def test_what_is_not_active_is_read_every_time(status: str) -> None:
    store = Rows()
    store.change(status=status)
    assert (store.status(), store.status()) == (status, status)
    store.change(status="active")
    assert store.status() == "active"
    assert len(store.reads) == 3


def test_nobody_is_remembered_as_nobody() -> None:
    store = Rows(rows={})
    assert store.row() is None
    store.rows[ROW.serial] = ROW
    assert store.row() is ROW


def test_one_is_not_taken_for_another() -> None:
    other = replace(ROW, serial="0b")
    store = Rows(rows={ROW.serial: ROW, "0b": other})
    assert store.row() is ROW
    assert store.row("0b") is other
    assert store.row() is ROW
    assert store.reads == [ROW.serial, "0b"]


def test_it_does_not_grow_without_end() -> None:
    store = Rows(rows={str(n): replace(ROW, serial=str(n)) for n in range(MAX_ROWS + 1)})

    async def story() -> None:
        for serial in store.rows:
            await store.recent.certificate(serial)
        assert len(store.recent._kept) <= MAX_ROWS
        await store.recent.certificate(str(MAX_ROWS))

    asyncio.run(story())
    assert len(store.reads) == MAX_ROWS + 1
    assert not store.recent._reads


# --- several who ask at once ---


async def at_once(store: Rows, count: int) -> list[CertificateRow | None]:
    return await asyncio.gather(*(store.recent.certificate(ROW.serial) for _ in range(count)))


def test_who_misses_the_same_row_at_once_shares_one_read() -> None:
    store = Rows(is_slow=True)
    assert asyncio.run(at_once(store, 50)) == [ROW] * 50
    assert store.reads == [ROW.serial]


def test_what_is_not_active_is_read_by_each_that_asks_at_once() -> None:
    """The read that is under way may be of before it became so."""
    store = Rows(is_slow=True)
    store.change(status="pending")

    async def story() -> tuple[CertificateRow | None, CertificateRow | None]:
        first = asyncio.create_task(store.recent.certificate(ROW.serial))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert store.reads == [ROW.serial]
        store.change(status="active")
        second = await store.recent.certificate(ROW.serial)
        return await first, second

    first, second = asyncio.run(story())
    assert (first and first.status, second and second.status) == ("pending", "active")


def test_a_read_that_lasts_longer_than_a_moment_serves_nobody_who_asks_later() -> None:
    store = Rows(is_slow=True)

    async def story() -> None:
        first = asyncio.create_task(store.recent.certificate(ROW.serial))
        await asyncio.sleep(0)
        store.clock.later(seconds=RECENT_S)
        assert await store.recent.certificate(ROW.serial) is ROW
        assert await first is ROW

    asyncio.run(story())
    assert store.reads == [ROW.serial] * 2


def test_one_whose_client_leaves_takes_nobody_elses_read_along() -> None:
    store = Rows(is_slow=True)

    async def story() -> None:
        leaving = asyncio.create_task(store.recent.certificate(ROW.serial))
        staying = asyncio.create_task(store.recent.certificate(ROW.serial))
        await asyncio.sleep(0)
        leaving.cancel()
        assert await staying is ROW
        assert leaving.cancelled()

    asyncio.run(story())
    assert store.reads == [ROW.serial]


def test_a_store_that_fails_fails_those_who_wait_and_is_asked_again() -> None:
    store = Rows(is_slow=True)

    async def fail(serial: str) -> CertificateRow | None:
        await store.read(serial)
        raise Busy("the store can't be read now")

    recent = RecentRows(fail, monotonic_ns=store.clock.monotonic_ns)

    async def story() -> list[Any]:
        asked = (recent.certificate(ROW.serial) for _ in range(3))
        return await asyncio.gather(*asked, return_exceptions=True)

    for count in (1, 2):
        assert [type(each) for each in asyncio.run(story())] == [Busy] * 3
        assert len(store.reads) == count
