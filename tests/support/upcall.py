"""Stub managers for the upcall, whose answers a test sets, in this process's own layout.

The layout (`keyutils.layout`) separates these tests from other checkouts, demos and what crashed runs left,
and from the machine's handler.
"""

from __future__ import annotations

import base64
import http.server
import json
import os
import socketserver
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from keyutils import agent_keys, install
from keyutils.keyring import KeySerial
from keyutils.layout import private_layout
from tests.support.waiting import PATIENCE_S

LAYOUT = private_layout()


@dataclass(kw_only=True)
class StubManager:
    """A manager whose answer the test sets: status and JSON, or None to hang."""

    path: Path
    answer: Callable[[dict[str, Any]], tuple[int, dict[str, Any]] | None]
    requests: list[dict[str, Any]] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    block_on_close = False
    manager: StubManager


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        manager = self.server.manager
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        manager.requests.append({**body, "path": self.path})
        answer = manager.answer(body)
        if answer is None:
            manager.released.wait(PATIENCE_S)
            return
        content = json.dumps(answer[1]).encode()
        self.send_response(answer[0])
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name the base class has
        pass

    def address_string(self) -> str:
        return "unix"


def key_answer(payload: bytes, timeout_s: int = 60) -> tuple[int, dict[str, Any]]:
    """Return the answer that instantiates a key."""
    return 200, {"payload_b64": base64.b64encode(payload).decode(), "timeout_s": timeout_s}


def refusal_answer(name: str, negative_s: int = 1) -> tuple[int, dict[str, Any]]:
    """Return the answer that makes a negative key with this errno."""
    return 403, {"errno": name, "negative_timeout_s": negative_s}


def answer_for(agent: str, answer: tuple[int, dict[str, Any]] | None) -> Callable[[dict[str, Any]], Any]:
    """Return a manager's answers: `answer` for this agent, "not mine" for all others."""
    return lambda body: answer if body["agent"] == agent else (404, {"errno": "ENOKEY"})


class Managers:
    """Starts stub managers in a directory and registers them; `stop` ends and unregisters them all."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._running: list[tuple[str, _Server]] = []

    def start(self, answer: Callable[[dict[str, Any]], Any], *, uid: int | None = None) -> StubManager:
        count = len(self._running)
        name = f"test-{count}-{uuid.uuid4().hex[:8]}"
        path = self._directory / f"m{count}.sock"
        server = _Server(str(path), _Handler)
        server.manager = StubManager(path=path, answer=answer)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        self._running.append((name, server))
        install.install(name, path, uid=os.geteuid() if uid is None else uid, is_lasting=False, layout=LAYOUT)
        return server.manager

    def stop(self) -> None:
        for name, server in self._running:
            server.manager.released.set()
            server.shutdown()
            server.server_close()
            install.uninstall(name, is_lasting=False, layout=LAYOUT)


def life_of(serial: KeySerial) -> str:
    """How long the kernel lets a key live on, by /proc/keys: "perm", "expd" or a number with its unit."""
    listed = Path("/proc/keys").read_text("utf-8", "replace").splitlines()
    return next(line.split()[3] for line in listed if int(line.split()[0], 16) == serial)


def request(agent: str, callout: bytes = b"") -> bytes:
    return agent_keys.request(agent, callout, prefix=LAYOUT.prefix)


def find(agent: str) -> KeySerial | None:
    return agent_keys.find(agent, prefix=LAYOUT.prefix)


def forget(agent: str) -> None:
    agent_keys.forget(agent, prefix=LAYOUT.prefix)
