"""The host's pool of sandbox workers: run a module's entry on arguments, get a proposal of holes.

Rules:
- A worker serves one module version and one call at a time; it is taken, used and given back, or ended.
- It is ended after any violation (deadline, crash, refused or unsolicited bytes, exhaustion), after
  `CALLS_PER_WORKER` calls or `BUSY_S_PER_WORKER` of work; the zygote's spare takes its place at once.
- The number of workers is bounded; when all are busy a call waits, up to its deadline. Idle workers of the
  module longest unused make room for another module.
- One deadline covers waiting, making a worker, loading and running. SIGKILL enforces it, through the zygote.
- What comes back is hostile: `frames` and `decode` read it. Errors are `faults`, one constant text for each
  kind.

Thread-safe; made after the front has forked (a pool must not be shared by two processes).
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NewType

from credsvc.sandbox import frames
from credsvc.sandbox.client.control import (
    NOBODY_KNOWS,
    NOT_YET_KNOWN,
    SpawnedWorker,
    ZygoteClient,
    ZygoteUnavailable,
)
from credsvc.sandbox.client.decode import HoleProposal, RefusedAnswer, decode_proposal
from credsvc.sandbox.client.faults import Fault, SandboxFault, SourceRefused, fault
from credsvc.sandbox.frames import Kind, Outcome
from credsvc.sandbox.refusal import Reason

__all__ = ["LoadedModule", "ModuleDigest", "SandboxPool"]

ModuleDigest = NewType("ModuleDigest", str)

CALLS_PER_WORKER: Final = 10_000
# Well below the worker's own CPU backstop (privileges.CPU_BACKSTOP_S), which would end it in somebody's call.
BUSY_S_PER_WORKER: Final = 60.0
# SIGKILL to the reported death takes 1.5 ms; later than this the zygote itself is stuck.
_KILL_S: Final = 2.0
_CHECK_S: Final = 5.0
_CHECKED: Final = ModuleDigest("0" * 64)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModule:
    """One version of a credential module: SHA-256 of it in hex, and its Python source."""

    digest: ModuleDigest
    source: str


@dataclass(slots=True)
class _Worker:
    """A worker checked out by one thread, or idle in the pool; `calls` and `busy_s` say when it has done
    enough.
    """

    worker_id: int
    channel: socket.socket
    answered: select.poll
    digest: ModuleDigest
    calls: int = 0
    busy_s: float = 0.0

    @classmethod
    def fresh(cls, spawned: SpawnedWorker, digest: ModuleDigest) -> _Worker:
        """Wrap a new worker; its channel never blocks, waiting is `answered`'s."""
        spawned.channel.setblocking(False)
        answered = select.poll()
        answered.register(spawned.channel, select.POLLIN)
        return cls(spawned.worker_id, spawned.channel, answered, digest)


class SandboxPool:
    """See the module's docstring."""

    def __init__(self, control_path: Path, *, max_workers: int) -> None:
        self._zygote = ZygoteClient(control_path)
        self._max_workers = max_workers
        self._freed = threading.Condition()
        # All below are guarded by _freed. Modules are in order of last use, oldest first.
        self._idle: OrderedDict[ModuleDigest, list[_Worker]] = OrderedDict()
        self._count = 0
        self._closed = False

    def run(
        self, module: LoadedModule, entry: str, arguments: Mapping[str, Any], deadline_s: float
    ) -> HoleProposal:
        """Call `entry(**arguments)` of the module, at most `deadline_s` from now; raises `SandboxFault`."""
        deadline = time.monotonic() + deadline_s
        request = _encode(entry, arguments)
        try:
            worker = self._take(module, deadline)
        except SourceRefused as exc:  # a module that was loaded and approved: not the caller's doing
            raise fault(Fault.NOT_LOADED) from exc
        try:
            outcome, body = self._exchange(worker, Kind.CALL, request, deadline)
            proposal = _read_outcome(outcome, body)
        except SandboxFault as exc:
            # An exception is an ordinary answer; after anything else the worker may no longer be ours.
            if exc.fault is Fault.MODULE_RAISED:
                self._give_back(worker)
            else:
                self._end_faulty(worker, exc)
            raise
        except BaseException:
            self._end(worker)
            raise
        self._give_back(worker)
        return proposal

    def check_source(self, source: str) -> None:
        """Compile a source inside a worker of its own, and run its top level once.

        Raises `SourceRefused` with a reason and a line, or `SandboxFault` (a source that never ends, or ends
        its worker).
        """
        deadline = time.monotonic() + _CHECK_S
        worker = self._take(LoadedModule(digest=_CHECKED, source=source), deadline)
        self._end(worker)  # never given back, so this digest is never idle

    def close(self) -> None:
        """End the idle workers; those in use end when they are given back."""
        with self._freed:
            self._closed = True
            idle = [worker for workers in self._idle.values() for worker in workers]
            self._idle.clear()
        for worker in idle:
            self._end(worker)
        self._zygote.close()

    def _take(self, module: LoadedModule, deadline: float) -> _Worker:
        """Return a healthy idle worker of this module, or a new one."""
        while True:
            worker = self._take_idle(module.digest, deadline)
            if worker is None:
                return self._load(module, self._spawn(module, deadline), deadline)
            if _is_quiet(worker.channel):
                return worker
            self._end(worker)  # it died, or said something that nobody asked for

    def _take_idle(self, digest: ModuleDigest, deadline: float) -> _Worker | None:
        """Return an idle worker, or None with a place reserved for a new one."""
        with self._freed:
            worker, evicted = self._wait_for_one(digest, deadline)
        if evicted is not None:
            self._kill(evicted)  # outside of the lock; its place is ours
        return worker

    def _wait_for_one(self, digest: ModuleDigest, deadline: float) -> tuple[_Worker | None, _Worker | None]:
        """Return (idle worker, None), (None, None) for a free place, or (None, a worker to end for its
        place).
        """
        timed_out = False
        while True:
            workers = self._idle.get(digest)
            if workers:
                self._idle.move_to_end(digest)
                return workers.pop(), None
            if self._count < self._max_workers:
                self._count += 1
                return None, None
            oldest = next((idle for idle in self._idle.values() if idle), None)
            if oldest is not None:
                return None, oldest.pop(0)
            if timed_out:
                raise fault(Fault.FULL)
            # After a timeout it looks once more: the wake-up for a place may have been meant for this thread,
            # and nobody else would get it.
            timed_out = not self._freed.wait(timeout=max(0.0, deadline - time.monotonic()))

    def _spawn(self, module: LoadedModule, deadline: float) -> SpawnedWorker:
        try:
            return self._zygote.spawn(module.digest, deadline=deadline)
        except ZygoteUnavailable as exc:
            self._release_place()
            raise fault(Fault.UNAVAILABLE) from exc

    def _load(self, module: LoadedModule, spawned: SpawnedWorker, deadline: float) -> _Worker:
        worker = _Worker.fresh(spawned, module.digest)
        try:
            source = _encode_source(module.source)
            _check_loaded(*self._exchange(worker, Kind.LOAD, source, deadline))
        except SandboxFault as exc:
            self._end_faulty(worker, exc)
            raise
        except BaseException:
            self._end(worker)
            raise
        return worker

    def _exchange(self, worker: _Worker, kind: Kind, body: bytes, deadline: float) -> tuple[Outcome, bytes]:
        """Send one request and read its answer; raises `SandboxFault`, after which the worker must
        be ended.
        """
        # Fresh for each request: an answer that an earlier call left behind does not carry it.
        nonce = os.urandom(frames.NONCE_BYTES)
        begun = time.monotonic()
        try:
            worker.channel.send(frames.pack_request(kind, nonce, body))
            if not worker.answered.poll(max(0.0, deadline - begun) * 1000):
                raise fault(Fault.TIMEOUT)
            # recvmsg, not recv: only its flags tell that the kernel cut a record that was too long.
            record, _ancillary, flags, _address = worker.channel.recvmsg(frames.MAX_ANSWER_BYTES)
        except OSError as exc:
            raise fault(Fault.CRASHED) from exc
        worker.calls += 1
        worker.busy_s += time.monotonic() - begun
        if not record:
            raise fault(Fault.CRASHED)
        if flags & socket.MSG_TRUNC:
            raise fault(Fault.ANSWER_REFUSED)
        try:
            return frames.unpack_answer(record, nonce)
        except ValueError as exc:
            raise fault(Fault.ANSWER_REFUSED) from exc

    def _give_back(self, worker: _Worker) -> None:
        if worker.calls >= CALLS_PER_WORKER or worker.busy_s >= BUSY_S_PER_WORKER:
            self._end(worker)
            return
        with self._freed:
            if not self._closed:
                self._idle.setdefault(worker.digest, []).append(worker)
                self._freed.notify()
                return
        self._end(worker)

    def _end(self, worker: _Worker) -> int:
        status = self._kill(worker)
        self._release_place()
        return status

    def _end_faulty(self, worker: _Worker, exc: SandboxFault) -> None:
        """End a worker after a fault; raises `Fault.UNAVAILABLE` where its zygote went, or is late to say how
        the worker ended: then nobody knows that it was the module's doing.
        """
        status = self._end(worker)
        if exc.fault is Fault.CRASHED and status in {NOBODY_KNOWS, NOT_YET_KNOWN}:
            raise fault(Fault.UNAVAILABLE) from exc

    def _kill(self, worker: _Worker) -> int:
        status = self._zygote.kill(worker.worker_id, deadline=time.monotonic() + _KILL_S)
        with contextlib.suppress(OSError):
            worker.channel.close()
        return status

    def _release_place(self) -> None:
        with self._freed:
            self._count -= 1
            self._freed.notify()


def _encode(entry: str, arguments: Mapping[str, Any]) -> bytes:
    body = json.dumps({"entry": entry, "arguments": dict(arguments)}).encode("ascii")
    if len(body) > frames.MAX_REQUEST_BYTES - frames.HEADER_BYTES:
        raise fault(Fault.REQUEST_TOO_LARGE)
    return body


def _encode_source(source: str) -> bytes:
    """The two refusals that need no parser are made here; the worker makes them again."""
    try:
        encoded = source.encode("utf-8")
    except UnicodeEncodeError as exc:
        raise SourceRefused(reason=Reason.NOT_TEXT, line=0) from exc
    if len(encoded) > frames.MAX_SOURCE_BYTES:
        raise SourceRefused(reason=Reason.TOO_LARGE, line=0)
    return encoded


def _read_outcome(outcome: Outcome, body: bytes) -> HoleProposal:
    if outcome is Outcome.RAISED:
        raise fault(Fault.MODULE_RAISED)
    if outcome is Outcome.EXHAUSTED:
        raise fault(Fault.EXHAUSTED)
    if outcome is not Outcome.DONE:
        raise fault(Fault.ANSWER_REFUSED)
    try:
        return decode_proposal(body)
    except RefusedAnswer as exc:
        raise fault(Fault.ANSWER_REFUSED) from exc


def _check_loaded(outcome: Outcome, body: bytes) -> None:
    if outcome is Outcome.REFUSED:
        raise _read_refusal(body)
    if outcome is not Outcome.LOADED:
        raise fault(Fault.NOT_LOADED)


def _read_refusal(body: bytes) -> SourceRefused | SandboxFault:
    """Hostile too: a word of the closed set and a small number, or nothing is believed."""
    word, _space, number = body[:64].decode("ascii", "replace").partition(" ")
    try:
        reason = Reason(word)
    except ValueError:
        return fault(Fault.NOT_LOADED)
    line = int(number) if number.isascii() and number.isdigit() and len(number) <= 6 else 0
    return SourceRefused(reason=reason, line=line)


def _is_quiet(channel: socket.socket) -> bool:
    """Say whether a worker is alive and has said nothing since its last answer."""
    try:
        channel.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
