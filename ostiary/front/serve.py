"""Runs an application as a role: an event loop per worker, behind TLS, plain HTTP or a UNIX socket.

Rules:
- `tls()` is called once per connection and returns the current context, so keys rotate without a restart.
  Building a context takes 1 to 4 ms: build it ahead.
- The listening sockets are made here, with SO_REUSEPORT, so that a restart can bind while old workers still
  end, and TCP_DEFER_ACCEPT, so that silent connections stay in the kernel.
- Workers die with the arbiter, the arbiter with the supervisor. The role is ready when a worker serves.
- gunicorn reads no environment, no configuration file and has no admin socket; its parser is the one in
  Python, whatever else is installed.
- One instance is TLS or plain, never both.
- `run_alone` is for what has one worker and a service manager that starts it again: an arbiter would be a
  second process with the same modules, 13 MB in the manager of certificates.

`ostiary.front.connection` says what a worker withstands; `ostiary.front.peer` who a request's peer is.
"""

from __future__ import annotations

import itertools
import logging
import os
import signal
import socket
import stat
from pathlib import Path
from typing import Any, Final

from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.glogging import Logger
from gunicorn.sock import create_sockets
from gunicorn.workers.gasgi import ASGIWorker

from ostiary.edge.packet_socket import check_path
from ostiary.edge.role import die_with_parent
from ostiary.errors import Misconfigured
from ostiary.front.worker import Front, FrontWorker

_BACKLOG: Final = 1024
# tcp(7): for about this long the kernel reports no connection to the listener before its first data arrived.
_DEFER_ACCEPT_S: Final = 5
# gunicorn takes arguments, and descriptors to adopt (also systemd's), from these.
_GUNICORN_VARIABLES: Final = ("GUNICORN_CMD_ARGS", "GUNICORN_FD", "GUNICORN_PID", "LISTEN_FDS", "LISTEN_PID")


def listen_tcp(host: str, port: int) -> socket.socket:
    """Return a listening TCP socket for `Front`; `Misconfigured` says why there is none."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, _DEFER_ACCEPT_S)
    try:
        sock.bind((host, port))
        sock.listen(_BACKLOG)
    except OSError as exc:
        sock.close()
        raise Misconfigured(f"can't listen on '{host}:{port}': {exc.strerror}") from exc
    return sock


def listen_unix(path: Path, *, mode: int) -> socket.socket:
    """Return a listening UNIX stream socket for `Front`, in place of one that a dead role left at `path`."""
    check_path(path)
    # A socket file outlives its process and refuses a new bind; anything else at `path` is a mistake.
    if path.exists() and not stat.S_ISSOCK(path.lstat().st_mode):
        raise Misconfigured(f"'{path}' exists and is not a socket")
    path.unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(os.fspath(path))
        # Nobody can connect before listen, so the mode is right before the first peer.
        path.chmod(mode)
        sock.listen(_BACKLOG)
    except OSError as exc:
        sock.close()
        raise Misconfigured(f"can't listen on '{path}': {exc.strerror}") from exc
    return sock


def run_front(front: Front) -> None:
    """Serve until SIGTERM, then raise SystemExit. Call it on the main thread of a process of its own."""
    _prepare(front).run()


def run_alone(front: Front) -> None:
    """Serve with one worker, in this process, until SIGTERM; for its main thread.

    Raises SystemExit if the worker ends for another reason. One that shows no sign of life for as long as an
    arbiter would wait (30 s) is ended by SIGALRM.
    """
    application = _prepare(front)
    cfg = application.cfg
    log = cfg.logger_class(cfg)
    # The worker closes these; `front.listeners` stay the caller's.
    sockets = create_sockets(cfg, log)
    worker = _LoneWorker(0, os.getppid(), sockets, application, cfg.timeout, cfg, log)
    worker.notify()
    try:
        worker.init_process()
    finally:
        signal.alarm(0)
        for sock in front.listeners:
            if sock.family == socket.AF_UNIX:
                Path(sock.getsockname()).unlink(missing_ok=True)
    if not worker.is_told:
        raise SystemExit(Arbiter.WORKER_BOOT_ERROR)


def _prepare(front: Front) -> _Application:
    for name in _GUNICORN_VARIABLES:
        os.environ.pop(name, None)
    FrontWorker.front = front
    return _Application(front)


class _LoneWorker(FrontWorker):
    """A worker in the process that made it: no arbiter forked it, watches it or ends it."""

    slot = 0
    is_told = False

    @property
    def ppid(self) -> int:
        """Whoever is the parent by now: its end is not ours."""
        return os.getppid()

    @ppid.setter
    def ppid(self, _parent: int) -> None:
        """Do nothing: gunicorn's constructor sets it."""

    def load_wsgi(self) -> None:
        ASGIWorker.load_wsgi(self)

    def notify(self) -> None:
        signal.alarm(self.timeout)

    def handle_exit_signal(self) -> None:
        self.is_told = True
        super().handle_exit_signal()

    def handle_quit_signal(self) -> None:
        self.is_told = True
        super().handle_quit_signal()


class _Log(Logger):  # type: ignore[misc] # gunicorn has no types
    """Sends gunicorn's messages where ours go: warnings and worse only, never with a request's text."""

    def setup(self, cfg: Any) -> None:
        self.cfg = cfg
        self._access_log_enabled = False
        self.error_log.propagate = True
        self.error_log.setLevel(logging.WARNING)

    def exception(self, msg: str, *args: object, **_kwargs: object) -> None:  # noqa: ARG002
        # Only the constant beginning: arguments and the traceback may quote a request.
        self.error_log.warning("gunicorn: %s", msg.partition("%")[0].strip())


class _Application(BaseApplication):  # type: ignore[misc] # gunicorn has no types
    """gunicorn's settings, all of them from `Front`."""

    def __init__(self, front: Front) -> None:
        self._front = front
        super().__init__()

    def load_config(self) -> None:
        for name, value in _settings(self._front).items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        # The application is made on the loop, by `Front.start`, and each connection gets its own way to it.
        return _not_yet


async def _not_yet(*_call: object) -> None:
    raise AssertionError("called before the worker has started")


def _settings(front: Front) -> dict[str, object]:
    limits = front.limits
    # gunicorn adopts these descriptors and closes them; `front.listeners` stay the caller's.
    binds = [f"fd://{os.dup(sock.fileno())}" for sock in front.listeners]

    def pre_fork(arbiter: Any, worker: Any) -> None:
        # The lowest free slot, so that a worker takes over the metrics row of the one it replaces.
        taken = {living.slot for living in arbiter.WORKERS.values()}
        worker.slot = next(slot for slot in itertools.count() if slot not in taken)

    def post_fork(_arbiter: object, worker: Any) -> None:
        die_with_parent(worker.ppid)

    settings: dict[str, object] = {
        "bind": binds,
        "worker_class": FrontWorker,
        "workers": front.workers,
        # `FrontConnection` ends idle connections: gunicorn's own timer must not come first.
        "keepalive": 2 * limits.keepalive_s,
        "graceful_timeout": limits.stop_s,
        "limit_request_line": limits.request_line_bytes,
        "limit_request_fields": limits.header_fields,
        "limit_request_field_size": limits.header_field_bytes,
        "pre_fork": pre_fork,
        "post_fork": post_fork,
        "asgi_loop": "asyncio",
        "asgi_lifespan": "off",
        # A request whose client is gone is cancelled at once; what it asked of the recorder is done all the
        # same.
        "asgi_disconnect_grace_period": 0,
        "http_parser": "python",
        "http_protocols": "h1",
        # A heartbeat file, made by mkstemp and unlinked at once. In memory: a busy disk would stall the beat.
        "worker_tmp_dir": "/dev/shm",  # noqa: S108
        # Since 25.1 gunicorn opens an admin socket in $XDG_RUNTIME_DIR or ~/.gunicorn by default.
        "control_socket_disable": True,
        # Believe no X-Forwarded-* of anybody: by default gunicorn believes 127.0.0.1, where every local user
        # is.
        "forwarded_allow_ips": "",
        "logger_class": _Log,
        "proc_name": "ostiary-front",
    }
    if front.drop_to is not None:
        settings["user"], settings["group"] = front.drop_to
    return settings
