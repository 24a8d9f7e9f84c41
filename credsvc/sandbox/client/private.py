"""A sandbox for one command: a zygote of its own in a temporary directory, ended with the command.

What `module selftest` runs is exactly what the service would: same zygote, same layers, same pool.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import tempfile
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from credsvc.sandbox.client.control import zygote_argv
from credsvc.sandbox.client.decode import HoleProposal
from credsvc.sandbox.client.pool import LoadedModule, SandboxPool
from ostiary.edge.role import READY_FD_VARIABLE
from ostiary.errors import Misconfigured

T = TypeVar("T")

_STOP_S = 5.0


class BlockingSandbox:
    """A pool for a command, which has no event loop: one that turns only while a call is waited for."""

    def __init__(self, pool: SandboxPool) -> None:
        self._pool = pool
        self._runner = asyncio.Runner()

    def run(
        self, module: LoadedModule, entry: str, arguments: Mapping[str, Any], deadline_s: float
    ) -> HoleProposal:
        """As `SandboxPool.run`."""
        return self.wait(self._pool.run(module, entry, arguments, deadline_s))

    def check_source(self, source: str) -> None:
        """As `SandboxPool.check_source`."""
        self.wait(self._pool.check_source(source))

    def wait(self, asked: Coroutine[Any, Any, T]) -> T:
        """Turn the loop until something that was asked of the pool is done."""
        return self._runner.run(asked)

    def close(self) -> None:
        """End the workers."""
        self.wait(self._pool.close())
        self._runner.close()


@contextmanager
def private_sandbox(*, without: tuple[str, ...] = ()) -> Iterator[BlockingSandbox]:
    """A pool of one worker on a zygote of our own; Misconfigured where it does not start (its log is on
    stderr).
    """
    with tempfile.TemporaryDirectory(prefix="ostiary-") as folder:
        # The workers' users must be able to pass.
        Path(folder).chmod(0o711)
        control = Path(folder) / "s"
        process = _start(control, without)
        pool = BlockingSandbox(SandboxPool(control, max_workers=1))
        try:
            yield pool
        finally:
            pool.close()
            process.terminate()
            process.wait(_STOP_S)


def _start(control: Path, without: tuple[str, ...]) -> subprocess.Popen[bytes]:
    ready, said = os.pipe()
    try:
        process = subprocess.Popen(
            zygote_argv(control, allowed_uids=[os.getuid()], without=without),
            env={READY_FD_VARIABLE: str(said)},
            pass_fds=[said],
            stdin=subprocess.DEVNULL,
        )
    finally:
        os.close(said)
    try:
        if os.read(ready, 1) != b"R":
            process.wait(_STOP_S)
            raise Misconfigured("the sandbox does not start here; `ostiary doctor` says what is missing")
    finally:
        os.close(ready)
    return process
