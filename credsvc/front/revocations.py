"""Following the CA's feed of revocations: who is revoked, and how old that knowledge is.

Rules:
- `GET /v1/revocations?since=N&wait=S` is a long poll: it answers at once when there is news, and otherwise
  after S seconds. Either way what is known is then current. The age is the time since the last answer; policy
  sees it as `revocation_age`.
- Until the first answer without news nothing is known, and the service refuses (`age_s` is None).
- News also ends open connections of the certificates concerned, in this process; each worker follows the feed
  by itself.
- This file touches nothing itself: `Feed` is the network, put together in the front's `role.py`. What it says
  is taken in on the event loop.
- A feed that fails is asked again, after a pause that doubles up to `MAX_PAUSE_S`; what was known stays
  known.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Final, Protocol

import msgspec

from ostiary.certificate import parse_serial_hex
from ostiary.errors import OstiaryError

WAIT_S: Final = 5
"""How long the CA may hold a poll: also the age that a healthy feed reaches."""
_FIRST_PAUSE_S: Final = 0.1
# A CA whose seats for waiters are all taken (ca/front/feed.py) answers a long poll at once.
_LEAST_S: Final = 0.2
MAX_PAUSE_S: Final = 2.0
_log = logging.getLogger("ostiary.revocations")


class RevokedCertificate(msgspec.Struct, frozen=True):
    """One line of the feed; what else it says is not needed here."""

    serial: str = msgspec.field(name="serial_number")


class Page(msgspec.Struct, frozen=True):
    """One answer of the feed: news since the number that was asked, and the number to ask with next."""

    next: int
    revoked: tuple[RevokedCertificate, ...]


class Feed(Protocol):
    """Asks the CA, who answers after up to `wait_s` when there is no news. Raises OstiaryError."""

    async def __call__(self, *, since: int, wait_s: int) -> Page: ...


class Revocations:
    """What is known; read by requests, written by the follower."""

    def __init__(
        self, *, monotonic_s: Callable[[], float], cut_off: Callable[[Iterable[int]], object]
    ) -> None:
        self._monotonic_s = monotonic_s
        self._cut_off = cut_off
        self._revoked: set[int] = set()
        self._heard_at_s: float | None = None
        self._next = 0
        self._caught_up = False

    def is_revoked(self, serial_number: int) -> bool:
        """Whether the CA said so."""
        return serial_number in self._revoked

    def age_s(self) -> int | None:
        """Whole seconds since the CA was last heard; None before."""
        heard_at_s = self._heard_at_s
        return None if heard_at_s is None else int(self._monotonic_s() - heard_at_s)

    async def poll(self, feed: Feed) -> None:
        """Ask once and learn; raises what the feed raises. Waits for news only when the last answer held
        none.
        """
        page = await feed(since=self._next, wait_s=WAIT_S if self._caught_up else 0)
        news = {parse_serial_hex(line.serial) for line in page.revoked} - self._revoked
        # Known first, cut off second: a connection made in between is refused by what is known.
        self._revoked |= news
        self._next = page.next
        # An answer with news may be one page of several.
        self._caught_up = not page.revoked
        if self._caught_up:
            self._heard_at_s = self._monotonic_s()
        if news:
            self._cut_off(news)

    async def follow(self, feed: Feed) -> None:
        """Poll until cancelled."""
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                begun_s = self._monotonic_s()
                await self.poll(feed)
                pause_s = _FIRST_PAUSE_S
                if self._caught_up and self._monotonic_s() - begun_s < _LEAST_S:
                    await asyncio.sleep(_LEAST_S)  # don't spin
            except OstiaryError as exc:
                _log.warning("revocations-not-heard", extra={"problem": exc.message, "age_s": self.age_s()})
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, MAX_PAUSE_S)
