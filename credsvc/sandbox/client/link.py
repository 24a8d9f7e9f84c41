"""The host's end of one worker: its channel, watched by the loop, and at most one request on it.

Rules:
- A request has a nonce of its own: an answer that an earlier one left behind does not carry it.
- The loop watches the channel for as long as the link lasts: a worker that ends, or says what nobody asked
  for, is noticed while it is idle.
- A request whose caller went away keeps the link (`orphan`): nothing else is asked on it before its answer
  has come, or its deadline.

Nothing here waits or ends a worker: who owns a link, and when it must go, is the pool's.
"""

from __future__ import annotations

import asyncio
import os
import select
import socket
from collections.abc import Callable
from typing import Final

from credsvc.sandbox import frames
from credsvc.sandbox.client.control import SpawnedWorker
from credsvc.sandbox.client.faults import Fault, fault
from credsvc.sandbox.frames import Kind, Outcome

__all__ = ["Link", "Reply"]

Reply = tuple[Outcome, bytes]

# One for all links of a process: each answer is copied out before the loop goes on.
_received: Final = bytearray(frames.MAX_ANSWER_BYTES)


class Link:
    """One worker; `calls` and `busy_s` say when it has done enough. For the loop's thread."""

    def __init__(self, spawned: SpawnedWorker, digest: str, *, on_noise: Callable[[Link], None]) -> None:
        self.worker_id: Final = spawned.worker_id
        self.digest: Final = digest
        self.calls = 0
        self.busy_s = 0.0
        self._loop: Final = asyncio.get_running_loop()
        self._on_noise = on_noise
        self._channel = spawned.channel
        self._channel.setblocking(False)
        self._poll = select.poll()
        self._poll.register(self._channel, select.POLLIN)
        self._is_watched = True
        self._loop.add_reader(self._channel, self._on_readable)
        self._is_asked = False
        self._nonce = b""
        self._begun = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._answer: asyncio.Future[Reply] = self._loop.create_future()

    def ask(self, kind: Kind, body: bytes, deadline: float) -> asyncio.Future[Reply]:
        """Send one request, and return what becomes its answer at `deadline` (the loop's time) or before.

        Where the future raises `SandboxFault`, the worker must be ended. `body` fits a record.
        """
        answer = self._answer = self._loop.create_future()
        self._is_asked = True
        self._nonce = os.urandom(frames.NONCE_BYTES)
        self._begun = self._loop.time()
        self._timer = self._loop.call_at(deadline, self._fail, Fault.TIMEOUT)
        try:
            self._channel.send(frames.pack_request(kind, self._nonce, body))
        except OSError:
            self._fail(Fault.CRASHED)
        return answer

    def orphan(self) -> asyncio.Future[Reply]:
        """Return the answer that is still to come, or came, to a request whose caller was cancelled."""
        if self._answer.cancelled():
            self._answer = self._loop.create_future()
        return self._answer

    def is_quiet(self) -> bool:
        """Say whether the worker is alive and has said nothing since its last answer."""
        # The loop may not have looked since; a poll of our own costs less than a failed read.
        return self._is_watched and not self._poll.poll(0)

    def unwatch(self) -> None:
        """Take no more from the worker; its channel stays open until `close`."""
        if self._is_watched:
            self._is_watched = False
            self._loop.remove_reader(self._channel)

    def close(self) -> None:
        """Close the channel, which a live worker takes for the end."""
        self.unwatch()
        self._channel.close()

    def _on_readable(self) -> None:
        if not self._is_asked:
            self.unwatch()
            self._on_noise(self)
            return
        try:
            # With MSG_TRUNC the size of the whole record comes back, also of one that the kernel had to cut.
            size = self._channel.recv_into(_received, 0, socket.MSG_TRUNC)
        except BlockingIOError:
            return
        except OSError:
            size = 0
        if not size:
            self._fail(Fault.CRASHED)
        elif size > len(_received):
            self._fail(Fault.ANSWER_REFUSED)
        else:
            self._take(bytes(memoryview(_received)[:size]))

    def _take(self, record: bytes) -> None:
        try:
            reply = frames.unpack_answer(record, self._nonce)
        except ValueError:
            self._fail(Fault.ANSWER_REFUSED)
        else:
            self._end_request().set_result(reply)

    def _fail(self, kind: Fault) -> None:
        self.unwatch()
        self._end_request().set_exception(fault(kind))

    def _end_request(self) -> asyncio.Future[Reply]:
        self._is_asked = False
        if self._timer is not None:
            self._timer.cancel()
        self.calls += 1
        self.busy_s += self._loop.time() - self._begun
        return self.orphan()
