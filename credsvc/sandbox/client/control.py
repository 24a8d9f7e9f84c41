"""The host's end of the zygote: how to start one, and ask it for workers.

Rules:
- One connection for each event loop, made at first use and watched by the loop; nothing here waits.
- Questions are answered in order, each within `ANSWER_S`; a lost or late answer closes the connection, and
  with it the zygote ends every worker that was asked for here. The next question connects again.
- How long a *caller* waits is its own affair: a caller that gives up costs nobody else a worker.
"""

from __future__ import annotations

import asyncio
import importlib.util
import socket
import struct
import sys
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

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
# SIGKILL to the reported death takes 1.5 ms, a worker 5; later than this the zygote itself is stuck.
ANSWER_S: Final = 2.0
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
    """A locked worker without a module: its id at the zygote, its pid, and our end of its channel."""

    worker_id: int
    pid: int
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
    """Owns one control connection; for one event loop, on whose thread everything here is called."""

    def __init__(self, control_path: Path) -> None:
        self._path = str(control_path)
        self._channel: socket.socket | None = None
        self._asked: deque[_Question] = deque()
        self._closed = False

    def spawn(self, digest: str) -> asyncio.Future[SpawnedWorker]:
        """Ask for a new worker for the module with this digest (64 hex, for the zygote's log).

        The future raises `ZygoteUnavailable`. Whoever gives up waiting for it ends the worker that comes
        nevertheless, and must not cancel it.
        """
        return self._ask(b"S" + digest.encode("ascii"))

    def kill(self, worker_id: int) -> asyncio.Future[int]:
        """Ask for the end of a worker, and for its wait status (waitpid's), `NOBODY_KNOWS` or
        `NOT_YET_KNOWN`. The future never raises.

        When it is done, the process is gone or the connection is closed, which makes the zygote end it.
        """
        return self._ask(b"K" + struct.pack("Q", worker_id))

    def close(self) -> None:
        """Close the connection; the zygote kills what it made for us."""
        self._closed = True
        self._lose(is_late=False)

    def _ask(self, record: bytes) -> asyncio.Future[Any]:
        loop = asyncio.get_running_loop()
        question = _Question(record, loop.create_future(), loop.call_later(ANSWER_S, self._on_late))
        self._send(question)
        return question.answer

    def _send(self, question: _Question) -> None:
        had_connection = self._channel is not None
        try:
            self._connected().send(question.record)
        except OSError:
            self._lose(is_late=False)
            if had_connection:
                self._send_again(question)
            else:
                question.fail(is_late=False)
        else:
            self._asked.append(question)

    def _send_again(self, question: _Question) -> None:
        """Ask anew where the zygote was restarted: what the old one made for us is gone, so this is safe."""
        if question.is_again or self._closed:
            question.fail(is_late=False)
            return
        question.is_again = True
        self._send(question)

    def _on_readable(self) -> None:
        if self._channel is None:
            return
        try:
            answer, descriptors, flags, _address = socket.recv_fds(self._channel, _MAX_ANSWER_BYTES, 1)
        except BlockingIOError:
            return
        except OSError:
            answer, descriptors, flags = b"", [], 0
        if not answer or not self._asked or flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            _close(descriptors)
            self._lose(is_late=False)
        else:
            self._asked.popleft().take(answer, descriptors)

    def _on_late(self) -> None:
        self._lose(is_late=True)

    def _lose(self, *, is_late: bool) -> None:
        """Close the connection, and with it end whatever was asked on it."""
        if self._channel is not None:
            asyncio.get_running_loop().remove_reader(self._channel)
            self._channel.close()
            self._channel = None
        asked, self._asked = self._asked, deque()
        for question in asked:
            # A worker that was to end has ended by this.
            if is_late or question.is_kill:
                question.fail(is_late=is_late)
            else:
                self._send_again(question)

    def _connected(self) -> socket.socket:
        if self._closed:
            raise ConnectionResetError
        if self._channel is None:
            # Without blocking from the start: where the zygote's backlog is full, that is an error at once.
            channel = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
            try:
                channel.connect(self._path)
            except OSError:
                channel.close()
                raise
            self._channel = channel
            asyncio.get_running_loop().add_reader(channel, self._on_readable)
        return self._channel


@dataclass(slots=True, eq=False)
class _Question:
    """One that the zygote has not answered."""

    record: bytes
    answer: asyncio.Future[Any]
    timer: asyncio.TimerHandle
    is_again: bool = False

    @property
    def is_kill(self) -> bool:
        return self.record[:1] == b"K"

    def take(self, answer: bytes, descriptors: list[int]) -> None:
        """Settle it with what the zygote said."""
        if self.is_kill and len(answer) == 5:
            self._settle(struct.unpack("i", answer[1:])[0])
        elif answer[:1] == b"W" and len(answer) == 13 and len(descriptors) == 1 and not self.answer.done():
            worker_id, pid = struct.unpack("=QI", answer[1:])
            channel = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, fileno=descriptors[0])
            self._settle(SpawnedWorker(worker_id=worker_id, pid=pid, channel=channel))
        else:
            _close(descriptors)
            self.fail(is_late=False)

    def fail(self, *, is_late: bool) -> None:
        """Settle it without an answer."""
        if self.is_kill:
            self._settle(NOT_YET_KNOWN if is_late else NOBODY_KNOWS)
        else:
            self._settle(ZygoteLate() if is_late else ZygoteUnavailable())

    def _settle(self, what: SpawnedWorker | ZygoteUnavailable | int) -> None:
        self.timer.cancel()
        if self.answer.done():
            return
        if isinstance(what, ZygoteUnavailable):
            self.answer.set_exception(what)
        else:
            self.answer.set_result(what)


def _close(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        socket.close(descriptor)
