"""Clients that try to starve a front, from a process of their own, until told to stop.

    with attacked(Attack(address=..., slow=[...], quick=..., greedy=...)) as attack: ...
    attack.told        # afterwards: how many held on, how many had to come again

- The slow ones (SLOW) send a request's head at once and its body a byte a second.
- The idle ones (IDLE) make one request and then nothing.
- The deaf ones (DEAF) send DEAF_REQUESTS requests at once and never read an answer.

Who is cut off comes again, all together at most AGAIN_PER_S times a second. They come from addresses of their
own (127.0.1.1 and on), as many as SOURCES.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

SLOW, IDLE, DEAF = 96, 2000, 200
DEAF_REQUESTS = 200
AGAIN_PER_S = 20
SOURCES = 16


@dataclass(frozen=True, kw_only=True)
class Attack:
    """Whom to attack with what; as in `Load`, `server_name` empty means no TLS.

    `slow` are whole requests with a body, in turn; `quick` is one that is answered with little, `greedy` one
    that is answered with much.
    """

    address: tuple[str, int] | str
    server_name: str = ""
    root_pem: bytes = b""
    identity_pem: bytes = b""
    slow: Sequence[bytes]
    quick: bytes
    greedy: bytes


@dataclass(frozen=True, kw_only=True)
class Report:
    """How many connections of each kind were open at the end, and how many were made again."""

    slow: int
    idle: int
    deaf: int
    again: int


@dataclass(kw_only=True)
class Attacking:
    """An attack; `report` is there when it is over."""

    report: Report | None = None

    @property
    def told(self) -> str:
        """The report in words."""
        assert self.report is not None
        found = self.report
        return (
            f"at its end {found.slow} slow, {found.idle} idle and {found.deaf} deaf clients were connected; "
            f"{found.again} times one had to come again"
        )


@contextmanager
def attacked(attack: Attack) -> Iterator[Attacking]:
    """Attack during the block, which begins once the attackers are in place, as far as they are let in."""
    message = msgspec.msgpack.encode(attack)
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.attack_process"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parent.parent,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    attacking = Attacking()
    with process:
        process.stdin.write(len(message).to_bytes(8, "big") + message)
        process.stdin.flush()
        assert process.stdout.readline() == b"ready\n", "the attack failed"
        try:
            yield attacking
        finally:
            process.stdin.close()
            attacking.report = msgspec.msgpack.decode(process.stdout.read(), type=Report)
