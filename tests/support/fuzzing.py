"""Asks a front with mutated requests, and says what it did wrong.

    python -m tests.support.fuzzing COUNT [SEED]

It prints its seed, the parser and what was answered. What each request became has a connection of its own,
and its client ends its side behind it. A front must

- answer no more requests than a strict reader finds (tests/support/strict_http.py), and refuse one at most;
- answer with no 5xx but 501 and 505, and with nothing behind an answer that closes;
- close, soon;
- have no more memory and no more descriptors at the end than after the first thousands.
"""

from __future__ import annotations

import asyncio
import collections
import os
import random
import re
import secrets
import socket
import struct
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ostiary.front.serve import listen_tcp
from tests.support.fronts import Running, ask
from tests.support.malformed import CASES, Listener, first_answer, with_host
from tests.support.strict_http import count_requests
from tests.support.waiting import PATIENCE_S

_CLIENTS: Final = 24
_WARM_UP: Final = 4000
# The allocator's own ups and downs; a leak of 100 bytes a request is 100 MB in a run by hand.
_GROWTH_BYTES: Final = 12 << 20
_TELL_EVERY: Final = 50_000
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_ALLOWED: Final = frozenset((501, 505))
_CLOSES: Final = re.compile(rb"\r\nconnection: close\r\n", re.IGNORECASE)

_IN_ORDER: Final = (
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /a/b?c=d&e HTTP/1.1\r\nHost: x:80\r\nAccept: */*\r\n\r\n",
    b'POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 8\r\n\r\n{"a": 1}',
    (
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        b'3;a=b\r\n{"a\r\n5\r\n": 1}\r\n0\r\nX: y\r\n\r\n'
    ),
    b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
)
_WORDS: Final = (
    *(b"\r\n", b"\r", b"\n", b"\r\n\r\n", b"\x00", b" ", b"\t", b":", b";", b",", b"\xff", b"0", b"5"),
    *(b"Content-Length: 5\r\n", b"Content-Length: 0\r\n", b"Transfer-Encoding: chunked\r\n", b"Host: y\r\n"),
    *(b"Expect: 100-continue\r\n", b"Connection: close\r\n", b"Upgrade: websocket\r\n", b"0\r\n\r\n"),
    *(b"5\r\nhello\r\n", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b" HTTP/1.1", b"ffffffffffffffff\r\n", b"%00"),
)


def corpus() -> list[bytes]:
    """Return what mutations begin with: requests that are in order, and malformed ones."""
    post = with_host(Listener(name="fuzzing", connect=socket.socket))
    malformed = [case.sent.replace(b"@POST@", post).replace(b"@MORE@", b"m" * 1100) for case in CASES]
    return [*_IN_ORDER * 10, *(sent for sent in malformed if len(sent) < 5000)]


def mutated(rng: random.Random, seeds: Sequence[bytes]) -> bytes:
    """Return one or two of the seeds with a few changes."""
    data = bytearray(rng.choice(seeds))
    if rng.random() < 0.3:
        data += rng.choice(seeds)
    for _ in range(rng.choice((0, 1, 1, 1, 2, 3, 5))):
        rng.choice(_MUTATIONS)(rng, data)
    return bytes(data)


def _flip(rng: random.Random, data: bytearray) -> None:
    if data:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _insert(rng: random.Random, data: bytearray) -> None:
    at = rng.randrange(len(data) + 1)
    data[at:at] = rng.choice(_WORDS)


def _replace(rng: random.Random, data: bytearray) -> None:
    at, word = rng.randrange(len(data) + 1), rng.choice(_WORDS)
    data[at : at + len(word)] = word


def _delete(rng: random.Random, data: bytearray) -> None:
    at = rng.randrange(len(data) + 1)
    del data[at : at + rng.choice((1, 1, 2, 5, 20))]


def _double(rng: random.Random, data: bytearray) -> None:
    begin = rng.randrange(len(data) + 1)
    part = data[begin : begin + rng.choice((1, 2, 10, 40))]
    at = rng.randrange(len(data) + 1)
    data[at:at] = part * rng.choice((1, 1, 3))


def _swap_lines(rng: random.Random, data: bytearray) -> None:
    lines = bytes(data).split(b"\r\n")
    one, other = rng.randrange(len(lines)), rng.randrange(len(lines))
    lines[one], lines[other] = lines[other], lines[one]
    data[:] = b"\r\n".join(lines)


def _cut(rng: random.Random, data: bytearray) -> None:
    del data[rng.randrange(len(data) + 1) :]


_MUTATIONS: Final[tuple[Callable[[random.Random, bytearray], None], ...]] = (
    *(_flip, _insert, _insert, _insert, _replace, _replace, _delete, _double, _swap_lines, _cut),
)


def judge(sent: bytes, received: bytes) -> list[int]:
    """Return the statuses of the answers; AssertionError says what is wrong with them."""
    statuses: list[int] = []
    is_last = False
    while received:
        assert not is_last, f"an answer behind the last one: {received[:200]!r}"
        if received.startswith(_CONTINUE):
            received = received[len(_CONTINUE) :]
            continue
        is_last = _CLOSES.search(received.partition(b"\r\n\r\n")[0] + b"\r\n") is not None
        status, received = first_answer(received)
        statuses.append(status)
    wrong = [status for status in statuses if status >= 500 and status not in _ALLOWED]
    assert not wrong, f"a fault of the server's: {statuses}"
    found = count_requests(sent)
    assert len(statuses) <= found + 1, f"{len(statuses)} answers to {found} requests"
    return statuses


@dataclass
class Fuzzing:
    """One run against the front at `address`, whose worker is `pid`."""

    address: tuple[str, int]
    pid: int
    rng: random.Random
    statuses: collections.Counter[int] = field(default_factory=collections.Counter)
    asked: int = 0

    async def run(self, count: int) -> None:
        """Ask so often; AssertionError with the request where the front did something wrong."""
        seeds = corpus()
        left = iter(range(count))

        async def client() -> None:
            for _ in left:
                await self._ask(mutated(self.rng, seeds))

        async with asyncio.TaskGroup() as group:
            for _ in range(_CLIENTS):
                group.create_task(client())

    async def _ask(self, sent: bytes) -> None:
        try:
            async with asyncio.timeout(PATIENCE_S):
                received = await _exchange(self.address, sent)
            statuses = judge(sent, received)
        except (AssertionError, TimeoutError) as exc:
            raise AssertionError(f"{exc!r}; it was asked {sent!r}") from exc
        self.statuses.update(statuses or [0])
        self.asked += 1

    def footprint(self) -> tuple[int, int]:
        """The worker's memory (RSS, bytes) and its descriptors."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text("ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE"), len([*Path(f"/proc/{self.pid}/fd").iterdir()])


async def _exchange(address: tuple[str, int], sent: bytes) -> bytes:
    loop = asyncio.get_running_loop()
    received = b""
    with socket.socket() as sock:
        sock.setblocking(False)
        # Closed by a reset, which leaves no port in TIME_WAIT: a run needs a million.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await loop.sock_connect(sock, address)
        try:
            await loop.sock_sendall(sock, sent)
            sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it has answered and closed already
        while data := await loop.sock_recv(sock, 65536):
            received += data
    return received


async def fuzz(count: int, seed: int, tell: Callable[[str], None]) -> None:
    """Run a front and ask it; AssertionError says what it did wrong, and to what."""
    running = Running(listen_tcp("127.0.0.1", 0), None)
    try:
        with socket.create_connection(running.address, timeout=PATIENCE_S) as sock:
            told = ask(sock, b"GET /?parser=1 HTTP/1.1\r\nHost: x\r\n\r\n")[1]
        tell(f"seed {seed}, parser {told['parser']}")
        run = Fuzzing(address=running.address, pid=told["worker"], rng=random.Random(seed))
        await run.run(min(count, _WARM_UP))
        memory_bytes, descriptors = run.footprint()
        for begin in range(_WARM_UP, count, _TELL_EVERY):
            await run.run(min(_TELL_EVERY, count - begin))
            tell(f"{run.asked} asked: {dict(sorted(run.statuses.items()))}, {run.footprint()}")
        more_bytes = run.footprint()[0] - memory_bytes
        assert more_bytes < _GROWTH_BYTES, f"{more_bytes} bytes more than after the first {_WARM_UP}"
        await _until(lambda: run.footprint()[1] <= descriptors)
        tell(f"{run.asked} asked: {dict(sorted(run.statuses.items()))}; {more_bytes >> 10} KiB more memory")
    finally:
        running.stop()


async def _until(holds: Callable[[], bool]) -> None:
    """Connections end a moment after their clients."""
    async with asyncio.timeout(PATIENCE_S):
        while not holds():  # noqa: ASYNC110 - the other process tells nobody
            await asyncio.sleep(0.05)


def main() -> None:
    """Fuzz as the command line says."""
    count = int(sys.argv[1])
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else secrets.randbits(32)
    asyncio.run(fuzz(count, seed, lambda line: print(line, flush=True)))  # noqa: T201 - a program


if __name__ == "__main__":
    main()
