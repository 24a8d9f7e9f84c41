"""A load of HTTP requests, each of which differs from all others, and what was measured of it.

    # starts the process of the load (benchmarks/load_process.py) and waits for it
    done = run_load(Load(address=..., requests=[...], connections=8, seconds=SECONDS, ...))
    done.rate_per_s, done.percentile_ms(50)

Rules:
- Nobody's key generation, TLS handshake or JSON encoding is measured: requests are bytes made beforehand, and
  every connection is made and warm before the clock starts. `NUMBER` in a request becomes the next number, so
  that one request stands for as many as are wanted.
- One connection has at most one request in flight (a closed loop). Where `in_flight` is below `connections`,
  they take turns: a thousand agents, each with a connection of its own, of whom sixteen ask at once.
- An answer with another status than 2xx ends the load: a rate of refusals is no rate. A patient load counts
  it instead, connects again where it was cut off, and counts who waits in vain with the time that it waited.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO

import msgspec

SECONDS = float(os.environ.get("BENCH_SECONDS", "6"))
"""How long one load takes."""
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
"""How often what is compared takes turns."""
AGENTS = int(os.environ.get("BENCH_AGENTS", "1000"))
"""How many certificates a crowd's load shows."""
NUMBER = "#######"
"""In a request: the next number, in as many digits."""
MAX_NUMBER = 10 ** len(NUMBER) - 1
CPU = Mapping[str, float]
"""Seconds of CPU by the name of who spent them."""


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Key and certificates of a client in one PEM; with requests that only this client makes, once each."""

    pem: bytes
    requests: Sequence[bytes] = ()


@dataclass(frozen=True, kw_only=True)
class Load:
    """What to send where.

    `address` is a host and a port, or the path of a UNIX socket. `server_name` empty means no TLS. The
    connections have the identities in turn, and the source addresses 127.0.0.1, 127.0.0.2, ... in turn, as
    many as `sources`. `requests` are anybody's: used once each, or over and over where `repeats`.
    `in_flight` 0 means all connections, `per_connection` 0 that none is closed and made anew.
    """

    address: tuple[str, int] | str
    server_name: str = ""
    root_pem: bytes = b""
    identities: Sequence[Identity] = ()
    requests: Sequence[bytes] = ()
    repeats: bool = False
    first_number: int = 0
    connections: int
    in_flight: int = 0
    sources: int = 1
    per_connection: int = 0
    seconds: float = SECONDS
    is_patient: bool = False


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Times from a request's first byte sent to its answer's last, in seconds, in the order of their ends.

    `refused`, `unanswered` and `reconnected` are a patient load's; who is counted as unanswered has its time
    among the latencies.
    """

    elapsed_s: float
    latencies_s: Sequence[float]
    client_s: float
    last_answer: bytes
    refused: int = 0
    unanswered: int = 0
    reconnected: int = 0
    cpu_s: CPU = field(default_factory=dict)

    @property
    def count(self) -> int:
        """Requests that were answered."""
        return len(self.latencies_s) - self.unanswered

    @property
    def rate_per_s(self) -> float:
        """Answers per second."""
        return self.count / self.elapsed_s

    def percentile_ms(self, percent: int) -> float:
        """A percentile of the latencies."""
        ordered = sorted(self.latencies_s)
        return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)] * 1e3

    def cpu_us(self, name: str | None = None) -> float:
        """CPU per request (us) of one of the server's processes, or of all."""
        spent = sum(self.cpu_s.values()) if name is None else self.cpu_s.get(name, 0.0)
        return spent / self.count * 1e6

    def told(self) -> str:
        """Rate and percentiles in a line."""
        p50, p99 = self.percentile_ms(50), self.percentile_ms(99)
        return f"{self.rate_per_s:.0f}/s, p50 {p50:.2f} ms, p99 {p99:.2f} ms"


def request_bytes(
    method: str,
    path: str,
    body: bytes,
    *,
    host: str,
    content_type: str,
    headers: Mapping[str, str] | None = None,
) -> bytes:
    """A whole HTTP/1.1 request."""
    more = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n{more}"
        f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode("ascii") + body


def run_load(
    load: Load,
    *,
    cpu: Callable[[], CPU] | None = None,
    during: AbstractContextManager[object] | None = None,
) -> Measured:
    """Run it in a process of its own; AssertionError with its last words where it failed.

    `cpu` reads what the server's processes have spent so far; it is asked when the load begins and ends, with
    its connections made before and closed after. `during` surrounds the same time.
    """
    with (
        tempfile.TemporaryFile() as words,
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks.load_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=words,
            cwd=Path(__file__).parent.parent,
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            measured = _converse(process.stdin, process.stdout, msgspec.msgpack.encode(load), cpu, during)
        except (OSError, EOFError) as exc:
            process.wait()
            words.seek(0)
            last_words = words.read()[-2000:].decode(errors="replace")
            raise AssertionError(f"the load failed: {last_words}") from exc
    return measured


def _converse(
    to: IO[bytes],
    said: IO[bytes],
    message: bytes,
    cpu: Callable[[], CPU] | None,
    during: AbstractContextManager[object] | None,
) -> Measured:
    to.write(len(message).to_bytes(8, "big") + message)
    to.flush()
    _expect(said, b"ready\n")
    with during or nullcontext():
        before = cpu() if cpu is not None else {}
        to.write(b"go\n")
        to.flush()
        _expect(said, b"done\n")
        after = cpu() if cpu is not None else {}
    measured = msgspec.msgpack.decode(said.read(), type=Measured)
    return replace(measured, cpu_s={name: spent - before.get(name, 0.0) for name, spent in after.items()})


def _expect(said: IO[bytes], line: bytes) -> None:
    if said.readline() != line:
        raise EOFError
