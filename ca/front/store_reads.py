"""The store's rows for the front's loop: what blocks happens on a thread of the pool.

Rules:
- Each question is Busy where the store can't be read within READ_S.
- The open shard is remembered for SHARD_MEMORY_S: shards close to new plans well before they are full
  (ca/certificates/shards.py), at 2,000 certificates a second by 500 ms, so an old answer still fits.
- What is remembered costs no thread: the open shard here, rows of callers in ca/front/recent.py, steps of the
  feed in ca/front/feed.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Final, ParamSpec, TypeVar

from ca.certificates.shards import Shard, ShardNumber, current_shard
from ca.store.reader import RevocationStep, StoreReader
from ca.store.rows import CertificateRow, TokenRow
from ostiary.errors import Busy
from ostiary.front.offload import Offload

P = ParamSpec("P")
T = TypeVar("T")

# A row by its index takes 0.1 ms. The client waits for 10 s; a store that does not answer is a 503 to it.
READ_S: Final = 2.0
SHARD_MEMORY_S: Final = 0.1


class StoreReads:
    """Questions to the store; one per worker, for its loop."""

    def __init__(self, reader: StoreReader, offload: Offload) -> None:
        self._reader = reader
        self._offload = offload
        # When it was asked for (epoch seconds), and the shard.
        self._shard: tuple[float, Shard] | None = None
        self._shard_read: asyncio.Task[Shard] | None = None

    async def token(self, token_id: str) -> TokenRow | None:
        """A token by its id."""
        return await self._read(self._reader.token, token_id)

    async def certificate(self, serial: str) -> CertificateRow | None:
        """A certificate by its serial number (hex)."""
        return await self._read(self._reader.certificate, serial)

    async def shard_for_new(self, now: datetime) -> ShardNumber:
        """The shard for a certificate that is prepared now."""
        remembered = self._shard
        # A clock that was set back must not keep an old shard for hours, hence the 0.
        if remembered is not None and 0 <= now.timestamp() - remembered[0] < SHARD_MEMORY_S:
            return current_shard(remembered[1], now).number
        # One read for all who need it at once, in a task of its own: whoever began it may be cancelled.
        if self._shard_read is None or self._shard_read.done():
            self._shard_read = asyncio.create_task(self._read_shard(now))
        return current_shard(await asyncio.shield(self._shard_read), now).number

    def forget_shard(self) -> None:
        """Ask the store next time, because the recorder said that the remembered one is full."""
        # A read that is under way may have seen the full one, too.
        self._shard = self._shard_read = None

    async def _read_shard(self, now: datetime) -> Shard:
        shard = await self._read(self._reader.open_shard, now)
        if self._shard_read is asyncio.current_task():
            self._shard = (now.timestamp(), shard)
        return shard

    async def last_revocation(self) -> int:
        """The feed's newest number, 0 before the first."""
        return await self._read(self._reader.last_revocation)

    async def revocations_since(self, since: int) -> list[RevocationStep]:
        """At most MAX_REVOCATIONS steps after `since`, in order."""
        return await self._read(self._reader.revocations_since, since)

    async def _read(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            async with asyncio.timeout(READ_S):
                return await self._offload.run(function, *args, **kwargs)
        except TimeoutError as exc:
            raise Busy("the store does not answer in time") from exc
