"""A pace for what the front answers to anybody: a bucket per source, before the routes that identify nobody.

Rules:
- The routes are named one by one: whoever adds one that identifies nobody adds it here.
- The pace is taken before anything else is done for the request.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import falcon.asgi

from ostiary.front.http import check_pace
from ostiary.front.limits import Buckets, Limit
from ostiary.front.peer import peer_source

STRANGERS: Final = Limit(rate_per_s=50, burst=200)
"""Of one source, per worker: some ten monitors behind one address, each asking every second."""


class SourcePace:
    """Falcon middleware: 429 with Retry-After for a source that asks for one of `paths` too often."""

    def __init__(
        self, paths: Iterable[str], *, monotonic_ns: Callable[[], int], limit: Limit = STRANGERS
    ) -> None:
        self._paths = frozenset(paths)
        self._monotonic_ns = monotonic_ns
        self._buckets = Buckets(limit)

    async def process_request(self, req: falcon.asgi.Request, _resp: falcon.asgi.Response) -> None:
        """Take a token."""
        if req.path in self._paths:
            check_pace(self._buckets.take(peer_source(), now_ns=self._monotonic_ns()))
