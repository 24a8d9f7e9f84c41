"""Measures request_key(2) from Python: a hit, and a miss with the whole upcall (targets: 5 µs and 15 ms).

The manager is a stub in a process of its own that answers at once. So the measurement covers the kernel,
request-key, the start of the handler's interpreter, two context switches and the key's creation, but not a
manager's own work.
"""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from keyutils import agent_keys, install, keyring

if TYPE_CHECKING:
    from collections.abc import Callable

PAYLOAD = b"p" * 2_700  # an EC key, three certificates
HIT_TARGET_S = 5e-6
MISS_TARGET_S = 15e-3


def measure(count: int, call: Callable[[], object]) -> list[float]:
    """Return the sorted durations of so many calls, in seconds."""
    clock = time.perf_counter
    durations = []
    for _ in range(count):
        began = clock()
        call()
        durations.append(clock() - began)
    return sorted(durations)


def row(name: str, durations: list[float], target_s: float | None = None) -> bool:
    """Print median, p90, p99; tell whether the median meets the target."""
    p50, p90, p99 = (durations[int(len(durations) * share)] * 1e6 for share in (0.5, 0.9, 0.99))
    told = f"{name:44} {p50:10.1f} {p90:10.1f} {p99:10.1f}"
    if target_s is None:
        print(told)
        return True
    is_met = p50 <= target_s * 1e6
    print(f"{told}   {'ok' if is_met else 'MISSED'} (target {target_s * 1e6:g})")
    return is_met


def serve(path: Path) -> int:
    """Answer every request with the payload, in a child; return its pid."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(64)
    pid = os.fork()
    if pid:
        listener.close()
        return pid
    content = json.dumps({"payload_b64": base64.b64encode(PAYLOAD).decode(), "timeout_s": 600}).encode()
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(content), content)
    while True:
        connection, _ = listener.accept()
        if connection.recv(65_536):
            connection.sendall(answer)
        connection.close()


def run(directory: Path) -> bool:
    """Register the stub, measure, and print the table."""
    path = directory / "s"
    child = serve(path)
    name = f"bench-{os.getpid()}"
    install.install(name, path, uid=os.geteuid(), is_lasting=False)
    try:
        agent_keys.join_session()
        agent = str(uuid.uuid4())
        assert agent_keys.request(agent) == PAYLOAD
        serial = keyring.request_key("user", f"ostiary:{agent}", None)
        buffer = bytearray(8192)
        print(f"{'microseconds':44} {'p50':>10} {'p90':>10} {'p99':>10}")
        results = [
            row(
                "request_key, hit",
                measure(50_000, lambda: keyring.request_key("user", f"ostiary:{agent}", None)),
                HIT_TARGET_S,
            ),
            row("read 2.7 kB into a buffer", measure(50_000, lambda: keyring.read_into(serial, buffer))),
            row(
                "agent_keys.request, hit (both, as bytes)", measure(20_000, lambda: agent_keys.request(agent))
            ),
            row("bare start of the interpreter", measure(200, start_interpreter)),
            row("request_key, miss with upcall", measure(300, miss), MISS_TARGET_S),
        ]
    finally:
        install.uninstall(name, is_lasting=False)
        os.kill(child, 9)
        os.waitpid(child, 0)
    return all(results)


def start_interpreter() -> None:
    """Start and end the handler's interpreter: what no handler in Python can get below."""
    subprocess.run([install.INTERPRETERS[0], "-ISE", "-c", ""], check=True)


def miss() -> None:
    """Have a key made that nobody has."""
    agent_keys.request(str(uuid.uuid4()), b"token")


def main() -> int:
    """Run, or say what this machine lacks."""
    missing = install.probe().missing
    if missing:
        print(f"skipped: {'; '.join(missing)}")
        return 0
    with tempfile.TemporaryDirectory() as directory:
        return 0 if run(Path(directory)) else 1


if __name__ == "__main__":
    sys.exit(main())
