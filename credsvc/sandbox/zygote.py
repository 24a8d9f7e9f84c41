"""The zygote: one small single-threaded process, exec'ed before any secret exists, that makes locked workers.

    python -I -m credsvc.sandbox.zygote --control PATH --allow-uid N [--allow-uid N]
                                        [--without namespaces|landlock]

Rules:
- It is exec'ed, not forked from a process that held secrets: workers of a forked one had them on their heap.
- It never reads module source: a worker is locked down first and gets its source over its own channel.
- One spare worker stands ready (`nursery`), so that asking for one costs a descriptor and not 5 ms.
- A worker belongs to the control connection that asked for it: end of file there kills it.
- Layers that fail at the start end the process with the step's name on stderr: nothing half-locked ever
  serves.
- The zygote is not dumpable, keeps no environment, and dies with its supervisor (who sets PDEATHSIG).

Control messages (one SOCK_SEQPACKET record each; answered in order):
    b"S" module digest (64 hex)     -> b"W" worker id (8 bytes) pid (4 bytes) + its channel by SCM_RIGHTS, or
                                       b"F"
    b"K" worker id (8 bytes)        -> b"K" wait status (i32; -1 where the worker was not this connection's)
"""

from __future__ import annotations

import codecs
import contextlib
import gc
import json
import os
import selectors
import signal
import socket
import struct
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from credsvc.sandbox import kernel
from credsvc.sandbox.kernel import LockdownError, prctl
from credsvc.sandbox.lockdown import DROPPABLE, Layers
from credsvc.sandbox.nursery import Nursery, Worker
from credsvc.sandbox.worker import Language, restricted_language

__all__ = ["Settings", "main", "parse_arguments", "run"]

_MAX_CONTROL_BYTES: Final = 256
_DIGEST_CHARS: Final = 64
_REMEMBERED_ENDS: Final = 256
# Without a spare (no process, too many workers) the loop tries again even if nobody asks.
_RETRY_S: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the supervisor decides: where to listen, who may connect, what the operator left out."""

    control_path: str
    allowed_uids: frozenset[int]
    layers: Layers


@dataclass(slots=True)
class _Connection:
    """One front process: the workers it was given, and how those ended that it has not asked about."""

    channel: socket.socket
    modules: dict[int, str] = field(default_factory=dict)
    workers: dict[int, Worker] = field(default_factory=dict)
    ended: dict[int, int] = field(default_factory=dict)

    def bury(self, worker_id: int, status: int) -> str:
        """Remember how a worker ended, for the kill that the host still asks for; returns its module's
        digest.
        """
        del self.workers[worker_id]
        self.ended[worker_id] = status
        while len(self.ended) > _REMEMBERED_ENDS:
            del self.ended[next(iter(self.ended))]
        return self.modules.pop(worker_id)


def parse_arguments(arguments: list[str]) -> Settings:
    """Read the command line; raises `ValueError`. argparse would cost each worker memory for ever."""
    path, uids, without = "", set[int](), set[str]()
    pairs = iter(arguments)
    for option in pairs:
        value = next(pairs, None)
        if value is None:
            raise ValueError(f"option {option!r} wants a value")
        if option == "--control":
            path = value
        elif option == "--allow-uid":
            uids.add(int(value))
        elif option == "--without" and value in DROPPABLE:
            without.add(value)
        else:
            raise ValueError(f"unknown option {option!r} {value!r}")
    if not path or not uids:
        raise ValueError("--control and --allow-uid are required")
    return Settings(
        control_path=path, allowed_uids=frozenset(uids), layers=Layers.without(frozenset(without))
    )


def main() -> None:
    """Run the zygote with the injected functions of the formula engine."""
    from credsvc.formula.injected import INJECTED  # noqa: PLC0415 - the one thing from outside this package

    run(parse_arguments(sys.argv[1:]), restricted_language(INJECTED), INJECTED)


def run(settings: Settings, language: Language, injected: Mapping[str, Any]) -> None:
    """Serve until SIGTERM. `injected` are exercised once, so that nothing imports or initialises after the
    lock-down.
    """
    _prepare(injected)
    nursery = Nursery(settings.layers, language)
    try:
        nursery.make_spare()
    except LockdownError as exc:
        sys.stderr.write(
            f"the sandbox can't be locked down here: {exc}; seccomp is always needed, namespaces or landlock "
            "can be left out by the operator's setting --without\n"
        )
        raise SystemExit(1) from exc
    with contextlib.closing(_Zygote(settings, nursery)) as zygote:
        _signal_readiness()
        zygote.loop()


def _prepare(injected: Mapping[str, Any]) -> None:
    """Make this process what workers should inherit."""
    # A worker's parent, the process between, ends at once: the worker becomes ours, and not init's.
    prctl("subreaper", kernel.PR_SET_CHILD_SUBREAPER, 1)
    prctl("not dumpable", kernel.PR_SET_DUMPABLE, 0)
    os.umask(0o077)
    readiness = os.environ.get("OSTIARY_READY_FD")
    os.environ.clear()
    if readiness is not None:
        os.environ["OSTIARY_READY_FD"] = readiness
    warnings.simplefilter("ignore")  # a SyntaxWarning on fd 2 would be SIGSYS
    for codec in ("ascii", "latin-1", "utf-8"):  # those that a module may name
        codecs.lookup(codec)
    _exercise(injected)
    # A locked worker can import nothing: what is missing now is missing for ever.
    gc.collect()
    gc.freeze()  # the collector must not write to pages that workers share


def _exercise(injected: Mapping[str, Any]) -> None:
    """Call helpers whose first use initialises something (OpenSSL's digests, the time zone, regex caches)."""
    for name, argument in (
        ("sha256_hex", "x"), ("format_stamp", 0), ("parse_stamp", "20260101T000000Z"), ("uri_encode", "é"),
        ("uri_decode", "%20"), ("parse_query", "a=b"), ("parse_url", "https://a/"),
        ("fold_headers", {"a": "b"}),
    ):  # fmt: skip
        if name in injected:
            injected[name](argument)
    json.loads(json.dumps({"a": ["é", 1, None, True]}))


def _signal_readiness() -> None:
    number = os.environ.pop("OSTIARY_READY_FD", None)
    if number is not None:
        os.write(int(number), b"R")
        os.close(int(number))


class _Zygote:
    """The control loop; knows whose each worker is."""

    def __init__(self, settings: Settings, nursery: Nursery) -> None:
        self._settings = settings
        self._nursery = nursery
        self._selector = selectors.DefaultSelector()
        self._connections: dict[socket.socket, _Connection] = {}
        self._stopping = False
        self._wake_read, wake_write = os.pipe()
        for end in (self._wake_read, wake_write):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)  # wakes the loop
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self._listener = _listen(settings.control_path)
        for source in (self._wake_read, self._listener):
            self._selector.register(source, selectors.EVENT_READ)

    def loop(self) -> None:
        """Take events until SIGTERM; make the next spare only when nobody waits."""
        while not self._stopping:
            self._reap()
            if not self._nursery.has_spare and not self._selector.select(0):
                self._refill()
            # Signals wake the loop by the pipe, so that a worker's end is seen while nobody asks.
            for key, _mask in self._selector.select(None if self._nursery.has_spare else _RETRY_S):
                self._handle(key.fileobj)

    def close(self) -> None:
        """Leave no worker and no socket file."""
        self._nursery.close()
        self._listener.close()
        with contextlib.suppress(FileNotFoundError):
            Path(self._settings.control_path).unlink()

    def _refill(self) -> None:
        try:
            self._nursery.make_spare()
        except LockdownError as exc:
            _log("sandbox-worker-not-made", reason=str(exc))

    def _handle(self, source: Any) -> None:
        if source == self._wake_read:
            with contextlib.suppress(BlockingIOError):
                os.read(self._wake_read, 4096)
        elif source is self._listener:
            self._accept()
        elif source in self._connections:
            self._serve(self._connections[source])

    def _accept(self) -> None:
        try:
            channel, _address = self._listener.accept()
        except OSError:
            return  # gone again before we looked
        # struct ucred: pid_t pid | uid_t uid | gid_t gid, as they were at connect (unix(7)).
        credentials = channel.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("iII"))
        _pid, uid, _gid = struct.unpack("iII", credentials)
        if uid not in self._settings.allowed_uids:
            _log("sandbox-control-refused", uid=uid)
            channel.close()
            return
        channel.setblocking(False)
        self._connections[channel] = _Connection(channel)
        self._selector.register(channel, selectors.EVENT_READ)

    def _serve(self, connection: _Connection) -> None:
        try:
            record = connection.channel.recv(_MAX_CONTROL_BYTES)
            if record[:1] == b"S" and len(record) == 1 + _DIGEST_CHARS:
                self._spawn(connection, record[1:].decode("ascii", "replace"))
            elif record[:1] == b"K" and len(record) == 1 + 8:
                status = self._kill(connection, struct.unpack("Q", record[1:])[0])
                connection.channel.send(b"K" + struct.pack("i", status))
            else:
                self._drop(connection)  # end of file, or a peer that does not speak this
        except OSError:
            self._drop(connection)  # gone, or it does not read its answers

    def _spawn(self, connection: _Connection, digest: str) -> None:
        try:
            worker = self._nursery.take()
        except LockdownError as exc:
            _log("sandbox-worker-not-made", reason=str(exc))
            connection.channel.send(b"F")
            return
        connection.workers[worker.worker_id] = worker
        connection.modules[worker.worker_id] = digest
        answer = b"W" + struct.pack("=QI", worker.worker_id, worker.pid)
        socket.send_fds(connection.channel, [answer], [worker.channel.fileno()])
        worker.channel.close()  # the only copy is the host's now: its end of file reaches the worker

    def _kill(self, connection: _Connection, worker_id: int) -> int:
        """End a worker of this connection; answer only when it is gone, with its wait status."""
        # It may have ended by itself: then that is how, and not by our SIGKILL.
        self._reap()
        worker = connection.workers.pop(worker_id, None)
        if worker is None:
            return connection.ended.pop(worker_id, -1)
        del connection.modules[worker_id]
        status = self._nursery.end(worker)
        return -1 if status is None else status

    def _drop(self, connection: _Connection) -> None:
        self._selector.unregister(connection.channel)
        del self._connections[connection.channel]
        connection.channel.close()
        for worker in connection.workers.values():
            self._nursery.end(worker)

    def _reap(self) -> None:
        for worker, status in self._nursery.reap():
            owner = next(
                (each for each in self._connections.values() if worker.worker_id in each.workers), None
            )
            digest = owner.bury(worker.worker_id, status) if owner is not None else ""
            if status != 0:
                _log("sandbox-worker-ended", module=digest, **_describe(status))

    def _stop(self, _number: int, _frame: object) -> None:
        self._stopping = True


def _listen(path: str) -> socket.socket:
    """Open the control socket; its directory and SO_PEERCRED say who may come, not its mode."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with contextlib.suppress(FileNotFoundError):
        Path(path).unlink()
    listener.bind(path)
    Path(path).chmod(0o666)
    listener.listen(64)
    listener.setblocking(False)
    return listener


def _describe(status: int) -> dict[str, int]:
    code = os.waitstatus_to_exitcode(status)
    return {"signal": -code} if code < 0 else {"exit_code": code}


def _log(event: str, **details: object) -> None:
    """One JSON line on stderr, as all roles log; the details are ours, never a module's text."""
    with contextlib.suppress(OSError):
        sys.stderr.write(json.dumps({"event": event, **details}) + "\n")
        sys.stderr.flush()


if __name__ == "__main__":
    main()
