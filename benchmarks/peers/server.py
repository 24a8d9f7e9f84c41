"""A peer's server: a process with its files in a folder that is gone afterwards."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from benchmarks.load import CPU
from benchmarks.stages import cpu_of
from tests.support.ports import free_port
from tests.support.waiting import PATIENCE_S, until

NODE: Final = "peer.nodes.shop.example"
"""The DNS name of each peer's certificate."""


def find(name: str) -> Path | None:
    """A peer's program in the folder that PEERS names; None where it is not there."""
    folder = os.environ.get("PEERS")
    found = shutil.which(name, path=folder) if folder else None
    return Path(found).resolve() if found else None


class Server:
    """One server at `address`, with its files below `folder`; it runs during a block."""

    name: str

    def __init__(self) -> None:
        # On the disk on which this project's stores lie in the same run, not in memory.
        self.folder = Path(tempfile.mkdtemp(prefix="ost-peer-", dir="/tmp"))
        self.address = ("127.0.0.1", free_port())
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.prepare()
        with (self.folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                self.command(),
                cwd=self.folder,
                env=self.environment(),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        until(self._is_listening, lambda: f"{self.name} listens: {self.log()[-3000:]}")
        self.configure()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(timeout=PATIENCE_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            # Some leave their workers behind (`openssl ocsp -multi`).
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)

    def prepare(self) -> None:
        """Write what the server reads when it starts."""

    def command(self) -> Sequence[str]:
        """The server's argument vector."""
        raise NotImplementedError

    def environment(self) -> Mapping[str, str]:
        """The server's environment: a peer reads nothing of this user's."""
        return {"PATH": os.environ["PATH"], "HOME": str(self.folder)}

    def configure(self) -> None:
        """Say the rest, once the server listens."""

    def cpu(self) -> CPU:
        """Seconds of CPU of all of the server's processes."""
        assert self._process is not None
        return {self.name: cpu_of(self._process.pid)}

    def log(self) -> str:
        return (self.folder / "log").read_text("utf-8", "replace")

    def _is_listening(self) -> bool:
        ended = self._process.poll() if self._process is not None else None
        assert ended is None, f"{self.name} ended with {ended}: {self.log()[-3000:]}"
        with contextlib.suppress(OSError), socket.create_connection(self.address):
            return True
        return False
