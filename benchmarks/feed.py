"""The feed of revocations beside a load: somebody's certificate is revoked now and then, as in a cluster
where programs end, so that what a service remembers of revocations is never left alone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

EVERY_S = 0.25
"""Four programs end in a second: a node's, or those of a cluster of some hundred nodes."""


@contextmanager
def ticking(revoke_one: Callable[[], object]) -> Iterator[None]:
    """Revoke a certificate every EVERY_S during the block; what that raises is raised at its end."""
    over = threading.Event()
    failed: list[Exception] = []

    def tick() -> None:
        try:
            while not over.wait(EVERY_S):
                revoke_one()
        except Exception as exc:  # noqa: BLE001 - a load beside a feed that stands still is another load
            failed.append(exc)

    thread = threading.Thread(target=tick)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    if failed:
        raise failed[0]
