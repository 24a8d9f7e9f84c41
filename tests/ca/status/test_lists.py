"""Lists are read once, shared by whoever asks, and never take more memory than they may."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from ca.certificates.crl import ReasonCode, build_entry
from ca.items import COMPLETE
from ca.status import lists as lists_file
from ca.status.lists import LOOK_S, PIECE_BYTES, Lists, Version
from ca.store.reader import StoredCRL
from ostiary.errors import Busy
from ostiary.front.offload import Offload
from tests.support.ca_authority import AuthorityForTests
from tests.support.certificates import NOW
from tests.support.still_clock import ClockForTests
from tests.support.waiting import PATIENCE_S

AUTHORITY = AuthorityForTests()
ROOT_CRL = AUTHORITY.root_crl()
ROOT_PEM = x509.load_der_x509_crl(ROOT_CRL).public_bytes(Encoding.PEM)


class Store:
    """Lists in memory; `looks` counts the questions for numbers, `read` has each list that was read."""

    def __init__(self) -> None:
        self.lists: dict[int, StoredCRL] = {}
        self.looks = 0
        self.read: list[int] = []
        self.is_away = False
        self.may_answer = threading.Event()
        self.may_answer.set()

    def publish(self, shard: int, number: int, *, revoked: int = 0) -> bytes:
        entries = [
            build_entry(serial_number=serial + 1, revoked_at=NOW, reason=ReasonCode.superseded)
            for serial in range(revoked)
        ]
        der = AUTHORITY.crl(entries, number=number, shard=None if shard == COMPLETE else shard)
        self.lists[shard] = StoredCRL(number=number, der=der)
        return der

    def crl_numbers(self) -> dict[int, int]:
        self.looks += 1
        if self.is_away:
            raise Busy("the store can't be read now")
        return {shard: stored.number for shard, stored in sorted(self.lists.items())}

    def crls(self, shards: Sequence[int]) -> dict[int, StoredCRL]:
        assert self.may_answer.wait(PATIENCE_S)
        self.read += shards
        return {shard: self.lists[shard] for shard in shards if shard in self.lists}


class Site:
    """Lists over a store, with a clock that a test moves."""

    def __init__(self) -> None:
        self.store = Store()
        self.clock = ClockForTests()
        self.offload = Offload(threads=2)
        self.lists = Lists(self.store, self.offload, self.clock, root_crl_der=ROOT_CRL)

    async def content(self, shard: int) -> bytes:
        found = await self.lists.shard(shard)
        assert found is not None
        return await content_of(found)

    def later(self) -> None:
        self.clock.later(seconds=1.25 * LOOK_S)


async def content_of(version: Version) -> bytes:
    return b"".join([piece async for piece in version.pieces()])


def told(story: Callable[[Site], Coroutine[Any, Any, None]]) -> None:
    site = Site()
    try:
        asyncio.run(story(site))
    finally:
        site.offload.close()


def test_a_list_is_read_again_only_when_its_number_has_grown() -> None:
    async def story(site: Site) -> None:
        first = site.store.publish(1, 1)
        site.store.publish(2, 1)
        for _ in range(3):
            assert await site.content(1) == first
        assert (site.store.looks, site.store.read) == (1, [1])
        site.later()
        assert await site.content(1) == first
        assert (site.store.looks, site.store.read) == (2, [1])
        second = site.store.publish(1, 2)
        assert await site.content(1) == first
        site.later()
        assert await site.content(1) == second
        assert (site.store.looks, site.store.read) == (3, [1, 1])

    told(story)


def test_those_who_ask_at_once_share_one_read_even_where_the_first_of_them_leaves() -> None:
    async def story(site: Site) -> None:
        der = site.store.publish(1, 1, revoked=5000)
        site.store.may_answer.clear()
        asking = [asyncio.create_task(site.lists.shard(1)) for _ in range(20)]
        await asyncio.sleep(0)
        asking[0].cancel()
        site.store.may_answer.set()
        found = await asyncio.gather(*asking[1:])
        assert len({id(version.parts[0].content) for version in found if version is not None}) == 1
        assert (site.store.looks, site.store.read) == (1, [1])
        assert await site.content(1) == der

    told(story)


def test_a_list_that_is_not_there_is_none_and_costs_no_read() -> None:
    async def story(site: Site) -> None:
        site.store.publish(1, 1)
        assert await site.lists.shard(7) is None
        assert await site.lists.shard(COMPLETE) is None
        assert site.store.read == []
        assert await site.content(1)
        del site.store.lists[1]
        site.later()
        assert await site.lists.shard(1) is None

    told(story)


def test_a_store_that_can_not_be_read_gives_no_old_list() -> None:
    async def story(site: Site) -> None:
        site.store.publish(1, 1)
        assert await site.content(1)
        site.later()
        site.store.is_away = True
        with pytest.raises(Busy):
            await site.content(1)
        site.store.is_away = False
        assert await site.content(1)

    told(story)


def test_the_bundle_reads_only_what_changed_and_has_a_tag_of_its_content() -> None:
    async def story(site: Site) -> None:
        pems = {shard: pem(site.store.publish(shard, 1)) for shard in (1, 2, 3)}
        site.store.publish(COMPLETE, 1)
        first = await site.lists.bundle()
        assert await content_of(first) == pems[1] + pems[2] + pems[3] + ROOT_PEM
        assert await site.lists.bundle() is first
        site.store.read.clear()
        pems[2] = pem(site.store.publish(2, 2))
        site.later()
        second = await site.lists.bundle()
        assert await content_of(second) == pems[1] + pems[2] + pems[3] + ROOT_PEM
        assert (site.store.read, first.tag == second.tag) == ([2], False)
        assert first.parts[0] is second.parts[0]

    told(story)


def test_a_version_stays_whole_for_whoever_reads_it_while_newer_ones_come() -> None:
    async def story(site: Site) -> None:
        old = site.store.publish(1, 1, revoked=5000)
        reading = await begin(site, 1)
        site.store.publish(1, 2)
        site.later()
        assert await site.content(1) != old
        assert await rest(reading) == old

    told(story)


def test_beyond_the_bound_the_oldest_replaced_version_goes_and_its_readers_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def story(site: Site) -> None:
        versions = [site.store.publish(1, number, revoked=5000) for number in range(1, 5)]
        assert len(versions[0]) > PIECE_BYTES
        monkeypatch.setattr(lists_file, "MAX_BYTES", int(3.5 * len(versions[0])))
        readings = []
        for number, der in enumerate(versions, start=1):
            site.store.lists[1] = StoredCRL(number=number, der=der)
            site.later()
            readings.append(await begin(site, 1))
        with pytest.raises(Busy):
            await rest(readings[0])
        assert [await rest(reading) for reading in readings[1:]] == versions[1:]

    told(story)


def test_beyond_the_bound_a_current_list_goes_last_and_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(site: Site) -> None:
        wanted = {shard: site.store.publish(shard, 1, revoked=100) for shard in (1, 2, 3)}
        monkeypatch.setattr(lists_file, "MAX_BYTES", int(2.5 * len(wanted[1])))
        for _ in range(2):
            for shard, der in wanted.items():
                assert await site.content(shard) == der
        assert site.store.read == [1, 2, 3, 1, 2, 3]

    told(story)


async def begin(site: Site, shard: int) -> AsyncIterator[bytes]:
    """A client that has read the first piece of a list."""
    version = await site.lists.shard(shard)
    assert version is not None
    reading = version.pieces()
    FIRST[reading] = await anext(reading)
    return reading


FIRST: dict[AsyncIterator[bytes], bytes] = {}


async def rest(reading: AsyncIterator[bytes]) -> bytes:
    return FIRST[reading] + b"".join([piece async for piece in reading])


def pem(der: bytes) -> bytes:
    return x509.load_der_x509_crl(der).public_bytes(Encoding.PEM)
