"""The feed of revocations as this worker knows it: one thread asks the store, all others wait for that
thread.

Rules:
- That thread asks the store every POLL_S for the feed's newest number (by index): a thousand waiters cost
  what one costs.
- A revoked certificate is cut off: its open connections to this worker end at once, and its next request
  would be refused anyway.
- Waiting occupies a thread of the front, so only `max_waiters` may wait. Others are answered at once and
  should ask again after PAUSE_S (Retry-After).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from typing import Final

from ca.store.reader import RevocationStep, StoreReader
from ostiary.certificate import parse_serial_hex
from ostiary.errors import Busy

_log = logging.getLogger("ostiary.ca.front")
# A tenth of the second within which receivers are to know of a revocation.
POLL_S: Final = 0.1
PAUSE_S: Final = 1


class RevocationFeed:
    """Thread-safe; `run` is a thread of its own."""

    def __init__(
        self, reader: StoreReader, *, cut_off: Callable[[Iterable[int]], int], max_waiters: int
    ) -> None:
        self._reader = reader
        self._cut_off = cut_off
        self._newest = 0
        # Guards `_newest` for those who wait; `look` alone changes it, on its own thread.
        self._changed = threading.Condition()
        self._seats = threading.BoundedSemaphore(max_waiters)

    def start_at_newest(self) -> None:
        """Take the store's newest number as known: a certificate that was revoked before this worker began
        has no connection to it.
        """
        self._newest = self._reader.last_revocation()

    def run(self, stopped: threading.Event) -> None:
        """Follow the store until stopped."""
        while not stopped.wait(POLL_S):
            try:
                self.look()
            except Busy as exc:
                _log.warning("feed-unreadable", extra={"problem": exc.message})

    def look(self) -> None:
        """Ask the store once."""
        if self._reader.last_revocation() <= self._newest:
            return
        steps = self._reader.revocations_since(self._newest)
        # Two read transactions: a store that was restored between them may no longer have what the first saw.
        if not steps:
            return
        self._cut_off(parse_serial_hex(step.serial) for step in steps)
        with self._changed:
            self._newest = steps[-1].n
            self._changed.notify_all()

    def since(self, since: int, *, wait_s: float) -> tuple[int, list[RevocationStep]]:
        """The number to ask with next time, and the revocations after `since`; waits up to `wait_s` for the
        first.
        """
        steps = self._reader.revocations_since(since)
        if not steps and wait_s > 0 and self._seats.acquire(blocking=False):
            try:
                with self._changed:
                    self._changed.wait_for(lambda: self._newest > since, timeout=wait_s)
            finally:
                self._seats.release()
            steps = self._reader.revocations_since(since)
        if steps:
            return steps[-1].n, steps
        # After the CA was restored from a backup a client may be ahead of the feed; it goes on from the
        # feed's end.
        return min(since, self._reader.last_revocation()), []
