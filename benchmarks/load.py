"""A load of HTTPS requests, from one process that uses as little CPU as possible, and its measurements.

    # starts the process and waits for it
    done = run_load(Load(address=..., requests=[...], connections=8, seconds=5.0, ...))
    done.rate_per_s, done.percentile_ms(50)

Rules:
- Every request is bytes made beforehand, every connection is made and warm before the clock starts: nobody's
  key generation, TLS handshake or JSON encoding is measured.
- One connection has one request in flight (a closed loop): when its answer is complete, it sends the next.
- The process watches all connections by epoll; it takes about 40 us of CPU per request, on the machine that
  it measures.
- An answer with another status than 2xx ends the load: a rate of refusals is no rate.
"""

from __future__ import annotations

import base64
import json
import select
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

from ostiary.edge.tls import client_context

_READ_BYTES = 64 << 10
_WARM_UP = 3
TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What to send where; `server_name` empty means plain HTTP. `requests` are used once each, or over and
    over where `repeats`.
    """

    address: tuple[str, int]
    server_name: str = ""
    root_pem: bytes = b""
    identity_pem: bytes | None = None
    requests: Sequence[bytes]
    repeats: bool
    connections: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Times from a request's first byte sent to its answer's last, in seconds, in the order of their ends."""

    elapsed_s: float
    latencies_s: Sequence[float]
    cpu_s: float
    last_answer: bytes

    @property
    def count(self) -> int:
        """Requests that were answered."""
        return len(self.latencies_s)

    @property
    def rate_per_s(self) -> float:
        """Answers per second."""
        return self.count / self.elapsed_s

    def percentile_ms(self, percent: int) -> float:
        """A percentile of the latencies."""
        ordered = sorted(self.latencies_s)
        return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)] * 1e3


def request_bytes(method: str, path: str, body: bytes, *, host: str, content_type: str) -> bytes:
    """A whole HTTP/1.1 request."""
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n"
        f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode("ascii") + body


def run_load(load: Load) -> Measured:
    """Run it in a process of its own; AssertionError with its last words where it failed."""
    asked = {
        "address": load.address,
        "server_name": load.server_name,
        "root_pem": load.root_pem.decode(),
        "identity_pem": None if load.identity_pem is None else load.identity_pem.decode(),
        "requests": [base64.b64encode(request).decode() for request in load.requests],
        "repeats": load.repeats,
        "connections": load.connections,
        "seconds": load.seconds,
    }
    with tempfile.TemporaryFile("w+") as words:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.load"],
            input=json.dumps(asked),
            stdout=subprocess.PIPE,
            stderr=words,
            text=True,
            check=False,
            cwd=Path(__file__).parent.parent,
        )
        words.seek(0)
        if done.returncode != 0:
            raise AssertionError(f"the load failed: {words.read()[-2000:]}")
    told = json.loads(done.stdout)
    told["last_answer"] = base64.b64decode(told["last_answer"])
    return Measured(**told)


# --- in the process of the load ---


class _Connection:
    """One keep-alive connection."""

    def __init__(self, asked: Load, context: ssl.SSLContext | None) -> None:
        sock = socket.create_connection(asked.address, timeout=TIMEOUT_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = sock if context is None else context.wrap_socket(sock, server_hostname=asked.server_name)
        self.begun_ns = 0
        self._received = b""

    def send(self, request: bytes) -> None:
        self.begun_ns = time.perf_counter_ns()
        self.sock.sendall(request)

    def receive(self) -> bytes | None:
        """Read what is there; the whole answer once it is complete."""
        chunk = self.sock.recv(_READ_BYTES)
        if not chunk:
            raise AssertionError("the server closed a connection")
        self._received += chunk
        head, separator, body = self._received.partition(b"\r\n\r\n")
        if not separator or len(body) < _content_length(head):
            return None
        answer, self._received = self._received, b""
        if not answer.startswith(b"HTTP/1.1 2"):
            raise AssertionError(f"refused: {answer[:1500]!r}")
        return answer

    def exchange(self, request: bytes) -> bytes:
        """One request and its answer."""
        self.send(request)
        while (answer := self.receive()) is None:
            pass
        return answer


def _content_length(head: bytes) -> int:
    lowered = head.lower()
    at = lowered.index(b"content-length:") + len(b"content-length:")
    return int(lowered[at:].split(b"\r\n", 1)[0])


def _drive(asked: Load, connections: list[_Connection], requests: Iterator[bytes]) -> Measured:
    by_fd = {connection.sock.fileno(): connection for connection in connections}
    poll = select.epoll()
    for fd in by_fd:
        poll.register(fd, select.EPOLLIN)
    latencies: list[float] = []
    answer = b""
    began_ns, began_cpu = time.perf_counter_ns(), time.process_time()
    until_ns = began_ns + int(asked.seconds * 1e9)
    waiting = 0
    for connection, request in zip(connections, requests, strict=False):
        connection.send(request)
        waiting += 1
    while waiting:
        for fd, _ in poll.poll(TIMEOUT_S):
            connection = by_fd[fd]
            complete = connection.receive()
            if complete is None:
                continue
            answer, now_ns = complete, time.perf_counter_ns()
            latencies.append((now_ns - connection.begun_ns) / 1e9)
            following = next(requests, None) if now_ns < until_ns else None
            if following is None:
                waiting -= 1
            else:
                connection.send(following)
    elapsed_s = (time.perf_counter_ns() - began_ns) / 1e9
    return Measured(
        elapsed_s=elapsed_s,
        latencies_s=latencies,
        cpu_s=time.process_time() - began_cpu,
        last_answer=answer,
    )


def main() -> None:
    """Read a load from standard input, run it, write what was measured to standard output."""
    told = json.load(sys.stdin)
    told["address"] = tuple(told["address"])
    told["root_pem"] = told["root_pem"].encode()
    told["identity_pem"] = told["identity_pem"].encode() if told["identity_pem"] else None
    told["requests"] = [base64.b64decode(request) for request in told["requests"]]
    asked = Load(**told)
    context = client_context(asked.root_pem, asked.identity_pem) if asked.server_name else None
    requests = cycle(asked.requests) if asked.repeats else iter(asked.requests)
    connections = [_Connection(asked, context) for _ in range(asked.connections)]
    for connection in connections:
        for _ in range(_WARM_UP):
            connection.exchange(next(requests))
    measured = _drive(asked, connections, requests)
    print(
        json.dumps(
            {
                "elapsed_s": measured.elapsed_s,
                "latencies_s": measured.latencies_s,
                "cpu_s": measured.cpu_s,
                "last_answer": base64.b64encode(measured.last_answer).decode(),
            }
        )
    )


if __name__ == "__main__":
    main()
