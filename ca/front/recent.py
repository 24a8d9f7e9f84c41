"""Rows of certificates that were read a moment ago, for acts that the recorder decides by the rows
themselves.

Rules:
- A row is kept for RECENT_S, the period of the feed of revocations: a revoked or superseded certificate is
  refused by its row that late at most. Nothing tells this cache to forget, so nothing can fail to.
- Only rows of active certificates are kept: a pending one is read every time.
- A kept row costs neither a thread nor a turn of the loop. Of those who miss the same row at once, the first
  reads it for all.
- Whoever uses one must leave the decision to the recorder, which reads the row in its transaction.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeAlias

from ca.store.rows import CertificateRow

RECENT_S: Final = 0.1
MAX_ROWS: Final = 1000
_RECENT_NS: Final = int(RECENT_S * 1e9)

Read: TypeAlias = Callable[[str], Coroutine[Any, Any, CertificateRow | None]]


class RecentRows:
    """One per worker, for its loop."""

    def __init__(self, read: Read, *, monotonic_ns: Callable[[], int]) -> None:
        self._read = read
        self._monotonic_ns = monotonic_ns
        # serial -> (when it was asked for, ns; row)
        self._kept: dict[str, tuple[int, CertificateRow]] = {}
        # serial -> (when it was begun, ns; the read that is under way)
        self._reads: dict[str, tuple[int, asyncio.Task[CertificateRow | None]]] = {}

    async def certificate(self, serial: str) -> CertificateRow | None:
        """A certificate by its serial number (hex), as it was at most RECENT_S ago."""
        now_ns = self._monotonic_ns()
        kept = self._kept.get(serial)
        if kept is not None and now_ns - kept[0] < _RECENT_NS:
            return kept[1]
        begun = self._reads.get(serial)
        if begun is not None and now_ns - begun[0] < _RECENT_NS:
            row = await asyncio.shield(begun[1])
            # What is not active may have become so since that read began.
            if row is not None and row.status == "active":
                return row
        return await self._begin(serial, self._monotonic_ns())

    async def _begin(self, serial: str, now_ns: int) -> CertificateRow | None:
        # A task of its own: whoever began the read may be cancelled while others wait for it.
        read = asyncio.create_task(self._read_and_keep(serial, now_ns))
        self._reads[serial] = (now_ns, read)
        return await asyncio.shield(read)

    async def _read_and_keep(self, serial: str, now_ns: int) -> CertificateRow | None:
        try:
            row = await self._read(serial)
        finally:
            begun = self._reads.get(serial)
            # Unless a later read took its place.
            if begun is not None and begun[1] is asyncio.current_task():
                del self._reads[serial]
        if row is None or row.status != "active":
            self._kept.pop(serial, None)
            return row
        # All at once: entries live for a tenth of a second, so there is little to lose and no order to keep.
        if len(self._kept) >= MAX_ROWS:
            self._kept.clear()
        self._kept[serial] = (now_ns, row)
        return row
