"""How often a local user may ask the manager: whoever floods the socket is refused before anything is read
for it.

Root is not counted: the handler of the kernel's upcalls asks as root, for all users.
"""

from __future__ import annotations

import math
from typing import Final

import falcon.asgi

from ostiary.edge.clock import Clock
from ostiary.errors import Busy
from ostiary.front.limits import Buckets, Limit
from ostiary.front.peer import peer_credentials

# Once enough for a spawner that starts as many agents as the manager lets wait for a signature
# (`certmgr.agents.MAX_REQUESTED`) under one user, which asks and claims for each; then a tenth of what the
# loop can do.
USER_LIMIT: Final = Limit(rate_per_s=200.0, burst=2_000)
_MAX_USERS: Final = 1_000


class UserPace:
    """Middleware of the socket's application."""

    def __init__(self, clock: Clock, limit: Limit = USER_LIMIT) -> None:
        self._clock = clock
        self._buckets = Buckets(limit, max_keys=_MAX_USERS)

    async def process_request(self, _req: falcon.asgi.Request, _resp: falcon.asgi.Response) -> None:
        """Busy, with the time to wait, for a user that has asked too often."""
        peer = peer_credentials()
        if peer is None or peer.uid == 0:
            return
        wait_s = self._buckets.take(str(peer.uid), now_ns=self._clock.monotonic_ns())
        if wait_s > 0:
            raise Busy(f"user {peer.uid} asks too often; retry", retry_after_s=math.ceil(wait_s))
