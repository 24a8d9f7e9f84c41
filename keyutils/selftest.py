"""Try the whole upcall once: a request made here must reach a manager that listens here, and return a key.

Rules:
- Everything is temporary: this process's own layout and registration, and the session keyring of a thread
  that ends with the test. So the test and the machine's handler do not disturb each other;
  `keyutils.install.probe` examines that one.
- It finds what files and rights do not show: a container whose upcalls run on the host, a seccomp filter,
  SELinux.
"""

from __future__ import annotations

import os
import secrets
import socket
import tempfile
import threading
import uuid
from pathlib import Path

from keyutils import agent_keys, install, keyring
from keyutils.layout import Layout, private_layout

_TIMEOUT_S = 5.0  # the handler ends after 4 s at the latest (`request_key_handler.KILL_S`)
_ANSWER = b'{"payload_b64":"c2VsZnRlc3Q=","timeout_s":10}'
_PAYLOAD = b"selftest"


def selftest() -> str | None:
    """Return None if the upcall works, else a sentence that names the failure; needs root."""
    layout = private_layout()
    missing = install.probe(layout).missing
    if missing:
        return "; ".join(missing)
    name = f"selftest-{os.getpid()}-{secrets.token_hex(4)}"
    with (
        tempfile.TemporaryDirectory(prefix="ostiary-") as directory,
        socket.socket(socket.AF_UNIX) as listener,
    ):
        path = Path(directory) / "s"
        listener.bind(str(path))
        listener.listen(4)
        listener.settimeout(_TIMEOUT_S)
        try:
            install.install(name, path, uid=os.geteuid(), is_lasting=False, layout=layout)
            return _run(listener, layout)
        except (OSError, install.InstallRefused) as exc:
            return str(exc)
        finally:
            install.uninstall(name, is_lasting=False, layout=layout)


def _run(listener: socket.socket, layout: Layout) -> str | None:
    """Request a key in one thread, whose session ends with it, while this thread is the manager."""
    agent = str(uuid.uuid4())
    outcome: list[str | None] = ["the request did not return"]
    requester = threading.Thread(target=_request, args=(agent, layout, outcome), daemon=True)
    requester.start()
    while requester.is_alive():
        try:
            connection, _ = listener.accept()
        except TimeoutError:
            break
        with connection:
            connection.settimeout(_TIMEOUT_S)
            if agent.encode() in connection.recv(65_536):
                head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(_ANSWER)
                connection.sendall(head + _ANSWER)
                break
            # A request for another agent: "not mine", so the handler asks the next manager.
            connection.sendall(b'HTTP/1.1 404 Not Found\r\nContent-Length: 18\r\n\r\n{"errno":"ENOKEY"}')
    requester.join(_TIMEOUT_S)
    return outcome[0]


def _request(agent: str, layout: Layout, outcome: list[str | None]) -> None:
    try:
        agent_keys.join_session()
        outcome[0] = (
            None
            if agent_keys.request(agent, prefix=layout.prefix) == _PAYLOAD
            else "the key has another payload than the one sent"
        )
    except keyring.KeyringError as exc:
        outcome[0] = (
            f"the upcall does not reach this process ({exc.name}: check conf, handler and namespaces)"
        )
