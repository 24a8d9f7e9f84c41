"""The host's end of one worker: its channel, watched by the loop, and at most one request on it.

Rules:
- A request has a nonce of its own: an answer that an earlier one left behind does not carry it.
- The loop watches the channel for as long as the link lasts: a worker that ends, or says what nobody asked
  for, is noticed while it is idle.
- A request whose caller went away keeps the link (`orphan`): nothing else is asked on it before its answers
  have come, or its deadline.
- Of many items in one request each has its share of time (`item_s`), counted from the last answers. It is the
  worker's time on a CPU, by the kernel's clock: on a loaded machine a worker waits for its turn, and is not
  to be ended for that.

Nothing here waits or ends a worker: who owns a link, and when it must go, is the pool's.
"""

from __future__ import annotations

import asyncio
import os
import select
import socket
import time
from collections.abc import Callable
from typing import Final

from credsvc.sandbox import frames
from credsvc.sandbox.client.control import SpawnedWorker
from credsvc.sandbox.client.faults import Fault, fault
from credsvc.sandbox.client.messages import Reply
from credsvc.sandbox.frames import Kind, Outcome

__all__ = ["Link"]

# A worker that neither answers nor runs, as only code that has broken out can do.
ITEM_WALL_S: Final = 0.25
# The loop looks again no sooner: what is left of an item's time may be little, and its worker not run.
_LOOK_AGAIN_S: Final = 0.002
# One for all links of a process: each answer is copied out before the loop goes on.
_received: Final = bytearray(frames.MAX_ANSWER_BYTES)


class Link:
    """One worker; `calls` and `busy_s` say when it has done enough. For the loop's thread."""

    def __init__(self, spawned: SpawnedWorker, digest: str, *, on_noise: Callable[[Link], None]) -> None:
        self.worker_id: Final = spawned.worker_id
        self.digest: Final = digest
        self.calls = 0
        self.busy_s = 0.0
        self.replies: list[Reply] = []
        self._loop: Final = asyncio.get_running_loop()
        self._on_noise = on_noise
        # clock_getcpuclockid(3), of another process: ~pid << 3 | CPUCLOCK_SCHED (linux/posix-timers.h).
        self._cpu_clock: Final = ~spawned.pid << 3 | 2
        self._channel: Final = spawned.channel
        self._channel.setblocking(False)
        self._poll: Final = select.poll()
        self._poll.register(self._channel, select.POLLIN)
        self._is_watched = True
        self._loop.add_reader(self._channel, self._on_readable)
        # What is asked, while it is.
        self._is_asked = False
        self._answer: asyncio.Future[list[Reply]] = self._loop.create_future()
        self._nonce = b""
        self._count = 0
        self._begun = self._deadline = 0.0
        self._item_s: float | None = None
        self._last_answers = self._last_cpu_s = self._loaded_cpu_s = 0.0
        # It stays set between requests: each has a later deadline than the one before, and setting a timer
        # for each would cost more than one that finds nothing to do.
        self._timer: asyncio.TimerHandle | None = None

    def ask(
        self, kind: Kind, body: bytes, deadline: float, *, count: int = 1, item_s: float | None = None
    ) -> asyncio.Future[list[Reply]]:
        """Send one request of `count` items, and return what becomes their answers, in order, at `deadline`
        (the loop's time) or before.

        Where the future raises `SandboxFault`, the worker must be ended; what came until then is left in
        `replies`. `body` fits a record. Within `item_s` of the worker's time some answers must come.
        """
        answer = self._answer = self._loop.create_future()
        self._is_asked = True
        self._nonce = os.urandom(frames.NONCE_BYTES)
        self._count = count
        self.replies = []
        self._begun = self._loop.time()
        self._deadline, self._item_s = deadline, item_s
        if item_s is None:
            self._set_timer(deadline)
        else:
            self._begin_item(item_s)
        try:
            self._channel.send(frames.pack_request(kind, self._nonce, body))
        except OSError:
            self._fail(Fault.CRASHED)
        return answer

    def orphan(self) -> asyncio.Future[list[Reply]]:
        """Return the answers that are still to come, or came, to a request whose caller was cancelled."""
        if self._answer.cancelled():
            self._answer = self._loop.create_future()
        return self._answer

    def cpu_s(self) -> float:
        """Return the worker's CPU time, in seconds; the clock's where the worker has gone."""
        try:
            return time.clock_gettime(self._cpu_clock)
        except OSError:
            return self._loop.time()

    def pace_s(self) -> float:
        """Return the worker's mean CPU time for a call so far, in seconds; 0 before the first."""
        calls = self.calls - 1  # without the load
        return (self.cpu_s() - self._loaded_cpu_s) / calls if calls else 0.0

    def is_quiet(self) -> bool:
        """Say whether the worker is alive and has said nothing since its last answer."""
        # The loop may not have looked since; a poll of our own costs less than a failed read.
        return self._is_watched and not self._poll.poll(0)

    def unwatch(self) -> None:
        """Take no more from the worker; its channel stays open until `close`."""
        if self._is_watched:
            self._is_watched = False
            self._loop.remove_reader(self._channel)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def close(self) -> None:
        """Close the channel, which a live worker takes for the end; what is asked of it fails."""
        if self._is_asked:
            self._fail(Fault.UNAVAILABLE)
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
            self.replies += frames.unpack_answers(record, self._nonce, most=self._count - len(self.replies))
        except ValueError:
            self._fail(Fault.ANSWER_REFUSED)
            return
        # After exhaustion the worker goes on with nothing.
        if len(self.replies) == self._count or self.replies[-1][0] is Outcome.EXHAUSTED:
            replies, self.replies = self.replies, []
            self._end_request().set_result(replies)
        elif self._item_s is not None:
            self._begin_item(self._item_s)

    def _fail(self, kind: Fault) -> None:
        self.unwatch()
        self._end_request().set_exception(fault(kind))

    def _end_request(self) -> asyncio.Future[list[Reply]]:
        self._is_asked = False
        if not self.calls:
            self._loaded_cpu_s = self.cpu_s()
        self.calls += self._count
        self.busy_s += self._loop.time() - self._begun
        return self.orphan()

    # Time.

    def _begin_item(self, item_s: float) -> None:
        self._last_answers, self._last_cpu_s = self._loop.time(), self.cpu_s()
        self._set_timer(min(self._deadline, self._last_answers + item_s))

    def _set_timer(self, when: float) -> None:
        if self._timer is not None:
            if self._timer.when() <= when:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(when, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if not self._is_asked:
            return
        late = self._late()
        if late <= self._loop.time():
            self._fail(Fault.TIMEOUT)
        else:
            self._set_timer(late)

    def _late(self) -> float:
        """Return when the request is late, by what is known now; in the past where it is."""
        if self._item_s is None:
            return self._deadline
        left_s = self._item_s - (self.cpu_s() - self._last_cpu_s)
        if left_s <= 0:
            return self._last_answers
        wait_s = max(left_s, _LOOK_AGAIN_S)
        return min(self._deadline, self._last_answers + ITEM_WALL_S, self._loop.time() + wait_s)
