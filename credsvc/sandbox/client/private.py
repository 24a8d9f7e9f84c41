"""A sandbox for one command: a zygote of its own in a temporary directory, ended with the command.

What `module selftest` runs is exactly what the service would: same zygote, same layers, same pool.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from credsvc.sandbox.client.control import zygote_argv
from credsvc.sandbox.client.pool import SandboxPool
from ostiary.edge.role import READY_FD_VARIABLE
from ostiary.errors import Misconfigured

_STOP_S = 5.0


@contextmanager
def private_sandbox(*, without: tuple[str, ...] = ()) -> Iterator[SandboxPool]:
    """A pool of one worker on a zygote of our own; Misconfigured where it does not start (its log is on
    stderr).
    """
    with tempfile.TemporaryDirectory(prefix="ostiary-") as folder:
        # The workers' users must be able to pass.
        Path(folder).chmod(0o711)
        control = Path(folder) / "s"
        process = _start(control, without)
        pool = SandboxPool(control, max_workers=1)
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
