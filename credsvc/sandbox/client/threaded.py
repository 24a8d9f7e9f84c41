"""The pool for a front whose requests have threads: one event loop in a thread of its own, which they ask."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Any, TypeVar

from credsvc.sandbox.client.decode import HoleProposal
from credsvc.sandbox.client.pool import LoadedModule, SandboxPool

T = TypeVar("T")


class ThreadedPool:
    """Thread-safe; made after the front has forked."""

    def __init__(self, control_path: Path, *, max_workers: int) -> None:
        self._pool = SandboxPool(control_path, max_workers=max_workers)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="sandbox", daemon=True)
        self._thread.start()

    def run(
        self, module: LoadedModule, entry: str, arguments: Mapping[str, Any], deadline_s: float
    ) -> HoleProposal:
        """As `SandboxPool.run`."""
        return self._wait(self._pool.run(module, entry, arguments, deadline_s))

    def close(self) -> None:
        """End the workers and the loop."""
        self._wait(self._pool.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _wait(self, asked: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(asked, self._loop).result()
