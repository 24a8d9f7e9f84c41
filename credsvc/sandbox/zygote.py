"""The zygote: one small single-threaded process, exec'ed before any secret exists, that makes locked workers.

    python -I -m credsvc.sandbox.zygote --control PATH --allow-uid N [--allow-uid N] [--without namespaces|landlock]

Rules:
- It never reads module source: a worker is locked down first and gets its source over its own channel.
- One spare worker stands ready, so that making one costs a descriptor and not 5 ms.
- A worker belongs to the control connection that asked for it: end of file there kills it.
- As root each worker gets a numeric user of its own; otherwise all share the zygote's, apart by namespaces.
- Layers that fail at the start end the process with the step's name on stderr: nothing half-locked ever serves.
- The zygote is not dumpable, keeps no environment, and dies with its supervisor (who sets PDEATHSIG).

Control messages (one SOCK_SEQPACKET record each; answered in order):
    b"S" module digest (64 hex)     -> b"W" worker id (8 bytes) + the worker's channel by SCM_RIGHTS, or b"F"
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
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from credsvc.sandbox import kernel, landlock
from credsvc.sandbox.kernel import LockdownError, prctl
from credsvc.sandbox.lockdown import DROPPABLE, Layers, lock_down
from credsvc.sandbox.worker import Language, restricted_language, serve

__all__ = ["Settings", "main", "parse_arguments", "run"]

FIRST_WORKER_UID: Final = 2_000_000_000  # in the range that systemd's uids-and-gids document leaves unused
MAX_WORKERS: Final = 128
_MAX_CONTROL_BYTES: Final = 256
_DIGEST_CHARS: Final = 64
_REMEMBERED_ENDS: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the supervisor decides: where to listen, who may connect, what the operator left out."""

    control_path: str
    allowed_uids: frozenset[int]
    layers: Layers


@dataclass(slots=True)
class _Worker:
    pid: int
    uid: int | None
    channel: socket.socket | None  # ours until it is handed over
    worker_id: int
    digest: str = ""


@dataclass(slots=True)
class _Connection:
    """One front process: the workers it was given, and how those ended that it has not asked about."""

    channel: socket.socket
    workers: dict[int, _Worker] = field(default_factory=dict)
    ended: dict[int, int] = field(default_factory=dict)


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
        raise ValueError("--control and --allow-uid are wanted")
    return Settings(
        control_path=path, allowed_uids=frozenset(uids), layers=Layers.without(frozenset(without))
    )


def main() -> None:
    """Run the zygote with the injected functions of the formula engine."""
    from ostiary.formula.injected import INJECTED  # noqa: PLC0415 - the one thing from outside this package

    run(parse_arguments(sys.argv[1:]), restricted_language(INJECTED), INJECTED)


def run(settings: Settings, language: Language, injected: Mapping[str, Any]) -> None:
    """Serve until SIGTERM. `injected` are exercised once, so that nothing imports or initialises after the lock-down."""
    _prepare(injected)
    with contextlib.closing(_Zygote(settings, language)) as zygote:
        try:
            zygote.make_spare()
        except LockdownError as exc:
            sys.stderr.write(
                f"the sandbox can't be locked down here: {exc}; seccomp is always needed, namespaces or landlock "
                "can be left out by the operator's setting --without\n"
            )
            raise SystemExit(1) from exc
        zygote.listen()
        _signal_readiness()
        zygote.loop()


def _prepare(injected: Mapping[str, Any]) -> None:
    """Make this process what workers should inherit."""
    prctl("subreaper", kernel.PR_SET_CHILD_SUBREAPER, 1)
    prctl("not dumpable", kernel.PR_SET_DUMPABLE, 0)
    os.umask(0o077)
    readiness = os.environ.get("OSTIARY_READY_FD")
    os.environ.clear()
    if readiness is not None:
        os.environ["OSTIARY_READY_FD"] = readiness
    warnings.simplefilter("ignore")  # a SyntaxWarning on fd 2 would be SIGSYS
    with contextlib.suppress(LockdownError):
        landlock.supported_abi()
    for codec in ("ascii", "latin-1", "utf-8"):  # those that a module may name
        codecs.lookup(codec)
    _exercise(injected)
    gc.collect()
    gc.freeze()  # the collector must not write to pages that workers share


def _exercise(injected: Mapping[str, Any]) -> None:
    """Call helpers whose first use initialises something (OpenSSL's digests, the time zone, regex caches)."""
    for name, argument in (
        ("sha256_hex", "x"), ("format_stamp", 0), ("parse_stamp", "20260101T000000Z"), ("uri_encode", "é"),
        ("uri_decode", "%20"), ("parse_query", "a=b"), ("parse_url", "https://a/"), ("fold_headers", {"a": "b"}),
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
    """The control loop; owns every worker process and its numeric user."""

    def __init__(self, settings: Settings, language: Language) -> None:
        self._settings = settings
        self._language = language
        self._selector = selectors.DefaultSelector()
        self._connections: dict[socket.socket, _Connection] = {}
        self._by_pid: dict[int, tuple[_Connection | None, _Worker]] = {}
        self._spare: _Worker | None = None
        self._free_uids = (
            list(range(FIRST_WORKER_UID, FIRST_WORKER_UID + MAX_WORKERS)) if os.geteuid() == 0 else []
        )
        self._last_id = 0
        self._stopping = False
        self._listener: socket.socket | None = None
        self._wake_read, self._wake_write = os.pipe()
        for end in (self._wake_read, self._wake_write):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self._selector.register(self._wake_read, selectors.EVENT_READ)

    def listen(self) -> None:
        """Open the control socket; the directory and SO_PEERCRED say who may come."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with contextlib.suppress(FileNotFoundError):
            Path(self._settings.control_path).unlink()
        listener.bind(self._settings.control_path)
        Path(self._settings.control_path).chmod(0o666)
        listener.listen(64)
        listener.setblocking(False)
        self._listener = listener
        self._selector.register(listener, selectors.EVENT_READ)

    def loop(self) -> None:
        """Take events until SIGTERM; make the next spare only when nobody waits."""
        while not self._stopping:
            self._reap()
            if self._spare is None and not self._selector.select(0):
                self._refill()
            for key, _mask in self._selector.select(None if self._spare is not None else 1.0):
                self._handle(key.fileobj)

    def close(self) -> None:
        """Kill every worker, wait for their ends, leave no socket file."""
        for connection in list(self._connections.values()):
            self._drop(connection)
        if self._spare is not None:
            self._end(self._spare.pid)
        if self._listener is not None:
            with contextlib.suppress(FileNotFoundError):
                Path(self._settings.control_path).unlink()

    def make_spare(self) -> None:
        """Fork and lock a worker; raises `LockdownError` with the step that failed."""
        if len(self._by_pid) >= MAX_WORKERS:
            raise LockdownError("too many workers", 0)
        uid = self._free_uids.pop() if self._free_uids else None
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        status_read, status_write = os.pipe()
        child = os.fork()
        if child == 0:
            self._become_worker(theirs.fileno(), status_write, uid)
        os.close(status_write)
        theirs.close()
        lines = _read_all(status_read).decode("ascii", "replace").splitlines()
        pid = next((int(line[4:]) for line in lines if line.startswith("pid ")), child)
        if pid != child:
            os.waitpid(child, 0)
        self._last_id += 1
        worker = _Worker(pid=pid, uid=uid, channel=ours, worker_id=self._last_id)
        self._by_pid[pid] = (None, worker)
        if "locked" not in lines:
            self._end(pid)
            raise LockdownError(next((line for line in lines if line.startswith("failed ")), "no report"), 0)
        self._spare = worker

    def _become_worker(self, channel_fd: int, status_fd: int, uid: int | None) -> None:
        """In the child: lock down and serve; never returns."""
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_DFL)
            for stream in ("stdin", "stdout", "stderr"):
                setattr(sys, stream, None)
            lock_down(self._settings.layers, uid=uid, channel_fd=channel_fd, status_fd=status_fd)
            serve(self._language)
        finally:
            os._exit(1)

    def _refill(self) -> None:
        try:
            self.make_spare()
        except LockdownError as exc:
            _log("sandbox worker could not be made", reason=str(exc))

    def _handle(self, source: Any) -> None:
        if source == self._wake_read:
            with contextlib.suppress(BlockingIOError):
                os.read(self._wake_read, 4096)
        elif source is self._listener:
            self._accept()
        elif source in self._connections:
            self._serve_connection(self._connections[source])

    def _accept(self) -> None:
        if self._listener is None:
            raise AssertionError("accepting before listening")
        try:
            channel, _address = self._listener.accept()
        except OSError:
            return  # gone again before we looked
        credentials = channel.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        _pid, uid, _gid = struct.unpack("iII", credentials)
        if uid not in self._settings.allowed_uids:
            _log("sandbox control connection refused", uid=uid)
            channel.close()
            return
        channel.setblocking(False)
        self._connections[channel] = _Connection(channel)
        self._selector.register(channel, selectors.EVENT_READ)

    def _serve_connection(self, connection: _Connection) -> None:
        try:
            record = connection.channel.recv(_MAX_CONTROL_BYTES)
            if record[:1] == b"S" and len(record) == 1 + _DIGEST_CHARS:
                self._spawn(connection, record[1:].decode("ascii", "replace"))
            elif record[:1] == b"K" and len(record) == 9:
                status = self._kill(connection, struct.unpack("Q", record[1:])[0])
                connection.channel.send(b"K" + struct.pack("i", status))
            else:
                self._drop(connection)  # end of file, or a peer that does not speak this
        except OSError:
            self._drop(connection)  # gone, or it does not read its answers

    def _spawn(self, connection: _Connection, digest: str) -> None:
        if self._spare is None:
            self._refill()
        worker, self._spare = self._spare, None
        if worker is None or worker.channel is None:
            connection.channel.send(b"F")
            return
        worker.digest = digest
        connection.workers[worker.worker_id] = worker
        self._by_pid[worker.pid] = (connection, worker)
        with contextlib.closing(worker.channel) as channel:
            worker.channel = None
            answer = b"W" + struct.pack("Q", worker.worker_id)
            socket.send_fds(connection.channel, [answer], [channel.fileno()])

    def _kill(self, connection: _Connection, worker_id: int) -> int:
        """End a worker of this connection; answer only when it is gone, with its wait status."""
        worker = connection.workers.get(worker_id)
        if worker is not None:
            self._end(worker.pid)
        return connection.ended.pop(worker_id, -1)

    def _drop(self, connection: _Connection) -> None:
        self._selector.unregister(connection.channel)
        del self._connections[connection.channel]
        connection.channel.close()
        for worker in list(connection.workers.values()):
            self._end(worker.pid)

    def _end(self, pid: int) -> None:
        os.kill(pid, signal.SIGKILL)  # still our child until it is waited for: the number can't be another's
        self._buried(pid, os.waitpid(pid, 0)[1])

    def _reap(self) -> None:
        for pid, status in _ended_children():
            self._buried(pid, status)

    def _buried(self, pid: int, status: int) -> None:
        """Forget a worker that has been waited for; tell the log unless we killed it or it left by itself."""
        connection, worker = self._by_pid.pop(pid, (None, None))
        if worker is None:
            return
        if worker.uid is not None:
            self._free_uids.insert(0, worker.uid)  # the longest unused is taken next
        if worker is self._spare:
            self._spare = None
        if worker.channel is not None:
            worker.channel.close()
        if status not in {0, signal.SIGKILL}:
            _log("sandbox worker ended", module=worker.digest, **_describe(status))
        if connection is not None:
            del connection.workers[worker.worker_id]
            connection.ended[worker.worker_id] = status
            while len(connection.ended) > _REMEMBERED_ENDS:
                del connection.ended[next(iter(connection.ended))]

    def _stop(self, _number: int, _frame: object) -> None:
        self._stopping = True


def _ended_children() -> Iterator[tuple[int, int]]:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        yield pid, status


def _describe(status: int) -> dict[str, int]:
    code = os.waitstatus_to_exitcode(status)
    return {"signal": -code} if code < 0 else {"exit_code": code}


def _read_all(fd: int) -> bytes:
    with open(fd, "rb", buffering=0) as pipe:
        return pipe.readall() or b""


def _log(event: str, **details: object) -> None:
    """One JSON line on stderr, as all roles log; the details are ours, never a module's text."""
    with contextlib.suppress(OSError):
        sys.stderr.write(json.dumps({"event": event, **details}) + "\n")
        sys.stderr.flush()


if __name__ == "__main__":
    main()
