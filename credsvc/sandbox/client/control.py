"""The host's end of the zygote: how to start one, and ask it for workers.

Rules:
- One connection per front process, made at first use: after a fork, the child uses a client of its own.
- One question at a time, under a lock, each with a deadline; a lost or late answer closes the connection, and
  with it the zygote ends every worker that was asked for here. The next question connects again.
"""

from __future__ import annotations

import contextlib
import importlib.util
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = [
    "NOBODY_KNOWS",
    "NOT_YET_KNOWN",
    "SpawnedWorker",
    "ZygoteClient",
    "ZygoteLate",
    "ZygoteUnavailable",
    "zygote_argv",
]

# In the place of a wait status, which is never negative (waitpid(2)): the zygote that made the worker is
# gone, or another one answers; or the zygote is late.
NOBODY_KNOWS: Final = -1
NOT_YET_KNOWN: Final = -2
_MAX_ANSWER_BYTES: Final = 64
# -I -S leaves out the environment, the working directory and the code in site-packages' .pth files, so the
# import path is given by hand: nothing but these folders is in a worker's memory.
_BOOT: Final = (
    "import sys; sys.path[:0] = sys.argv.pop(1).split(':'); from credsvc.sandbox.zygote import main; main()"
)


class ZygoteUnavailable(Exception):
    """The zygote is not there, late, or could not make a worker."""


class ZygoteLate(ZygoteUnavailable):
    """The zygote did not answer in time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpawnedWorker:
    """A locked worker without a module: its id at the zygote and our end of its channel."""

    worker_id: int
    channel: socket.socket


def zygote_argv(control_path: Path, *, allowed_uids: Iterable[int], without: Iterable[str]) -> list[str]:
    """Return the command that the supervisor executes, before any secret exists and with an empty
    environment.

    `without` names layers that the operator leaves out (`lockdown.DROPPABLE`); normally none.
    """
    argv = [sys.executable, "-I", "-S", "-c", _BOOT, ":".join(import_path()), "--control", str(control_path)]
    for uid in sorted(set(allowed_uids)):
        argv += ["--allow-uid", str(uid)]
    for layer in sorted(set(without)):
        argv += ["--without", layer]
    return argv


def import_path() -> list[str]:
    """Return the directories that hold this package, `ostiary` and RestrictedPython, without importing the
    last.
    """
    folders: list[str] = []
    for package in ("credsvc", "ostiary", "RestrictedPython"):
        spec = importlib.util.find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            raise AssertionError(f"package {package} is not installed")
        folder = str(Path(next(iter(spec.submodule_search_locations))).resolve().parent)
        if folder not in folders:
            folders.append(folder)
    return folders


class ZygoteClient:
    """Thread-safe; owns one control connection."""

    def __init__(self, control_path: Path) -> None:
        self._path = str(control_path)
        self._lock = threading.Lock()
        self._channel: socket.socket | None = None

    def spawn(self, digest: str, *, deadline: float) -> SpawnedWorker:
        """Return a new worker for the module with this digest (64 hex, for the zygote's log).

        `deadline` is on time.monotonic(). Raises `ZygoteUnavailable`.
        """
        answer, descriptors = self._ask(b"S" + digest.encode("ascii"), deadline)
        if answer[:1] != b"W" or len(answer) != 9 or len(descriptors) != 1:
            for descriptor in descriptors:
                socket.close(descriptor)
            raise ZygoteUnavailable
        channel = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, fileno=descriptors[0])
        return SpawnedWorker(worker_id=struct.unpack("Q", answer[1:])[0], channel=channel)

    def kill(self, worker_id: int, *, deadline: float) -> int:
        """End a worker and return its wait status (waitpid's), `NOBODY_KNOWS` or `NOT_YET_KNOWN`. Never
        raises.

        When this returns, the process is gone or the connection is closed, which makes the zygote end it.
        """
        try:
            answer, _descriptors = self._ask(b"K" + struct.pack("Q", worker_id), deadline)
        except ZygoteLate:
            return NOT_YET_KNOWN
        except ZygoteUnavailable:
            return NOBODY_KNOWS
        status: int = struct.unpack("i", answer[1:])[0]
        return status

    def close(self) -> None:
        """Close the connection; the zygote kills what it made for us."""
        with self._lock:
            self._disconnect()

    def _ask(self, question: bytes, deadline: float) -> tuple[bytes, list[int]]:
        if not self._lock.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise ZygoteLate
        try:
            had_connection = self._channel is not None
            try:
                return self._ask_once(question, deadline)
            except TimeoutError as exc:
                raise ZygoteLate from exc
            except OSError as exc:
                if not had_connection:
                    raise ZygoteUnavailable from exc
            try:  # the zygote was restarted: what the old one made for us is gone, asking anew is safe
                return self._ask_once(question, deadline)
            except OSError as exc:
                raise ZygoteUnavailable from exc
        finally:
            self._lock.release()

    def _ask_once(self, question: bytes, deadline: float) -> tuple[bytes, list[int]]:
        try:
            channel = self._connected()
            # At least a millisecond: a timeout of 0 would mean a socket that does not block.
            channel.settimeout(max(0.001, deadline - time.monotonic()))
            channel.send(question)
            answer, descriptors, flags, _address = socket.recv_fds(channel, _MAX_ANSWER_BYTES, 1)
            if not answer or flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
                raise ConnectionResetError
        except OSError:
            self._disconnect()  # a late answer must not meet the next question
            raise
        return answer, descriptors

    def _connected(self) -> socket.socket:
        if self._channel is None:
            channel = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            try:
                channel.connect(self._path)
            except OSError:
                channel.close()
                raise
            self._channel = channel
        return self._channel

    def _disconnect(self) -> None:
        if self._channel is not None:
            with contextlib.suppress(OSError):
                self._channel.close()
            self._channel = None
