"""The process of an attack (benchmarks/attack.py): one loop by epoll, and threads that connect.

python -m benchmarks.attack_process     # started by benchmarks.attack.attacked
"""

from __future__ import annotations

import contextlib
import os
import queue
import select
import socket
import ssl
import sys
import threading
import time
from collections import Counter
from itertools import count
from typing import Literal

import msgspec

from benchmarks.attack import AGAIN_PER_S, DEAF, DEAF_REQUESTS, IDLE, SLOW, SOURCES, Attack, Report
from ostiary.edge.tls import client_context

CONNECTORS = 8
TIMEOUT_S = 5.0
# In place: everybody has tried once, and what the deaf ones asked had time to be answered.
PLACED_S = 30.0
SETTLED_S = 3.0
_NOW, _LATER = 0, 1
_SMALL_BYTES = 1024
_READ_BYTES = 64 << 10

Kind = Literal["slow", "idle", "deaf"]


class Attacker:
    """One client; it connects on a connector's thread and then belongs to the loop."""

    def __init__(self, attack: Attack, kind: Kind, number: int, context: ssl.SSLContext | None) -> None:
        self.kind: Kind = kind
        self.sock: socket.socket | None = None
        self._attack = attack
        self._number = number
        self._context = context
        self._body = b""
        self._sent = 0

    def connect(self) -> socket.socket:
        """Connect and do what is done at once; OSError where that fails."""
        sock = self._connect()
        sock.settimeout(TIMEOUT_S)
        if self.kind == "slow":
            request = self._attack.slow[self._number % len(self._attack.slow)]
            head, separator, self._body = request.partition(b"\r\n\r\n")
            self._sent = 0
            sock.sendall(head + separator)
        elif self.kind == "idle":
            sock.sendall(self._attack.quick)
            sock.recv(_READ_BYTES)
        else:
            sock.setblocking(False)
            # As much as goes: what cannot be sent now is never sent.
            with contextlib.suppress(BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                for _ in range(DEAF_REQUESTS):
                    sock.send(self._attack.greedy)
        sock.setblocking(False)
        return sock

    def _connect(self) -> socket.socket:
        if isinstance(self._attack.address, str):
            local = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            local.settimeout(TIMEOUT_S)
            local.connect(self._attack.address)
            return local
        raw = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if self.kind == "deaf":
            # Before connect(2): the window that the server may fill.
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALL_BYTES)
        raw.settimeout(TIMEOUT_S)
        raw.bind((f"127.0.1.{1 + self._number % SOURCES}", 0))
        raw.connect(self._attack.address)
        if self._context is None:
            return raw
        return self._context.wrap_socket(raw, server_hostname=self._attack.server_name)

    def trickle(self) -> None:
        """Send one more byte of the body; OSError where the connection is gone."""
        if self.sock is not None and self._sent < len(self._body):
            self.sock.send(self._body[self._sent : self._sent + 1])
            self._sent += 1

    def has_ended(self) -> bool:
        """Whether the server has answered or closed: either ends a slow or idle client's connection."""
        assert self.sock is not None
        try:
            return self.sock.recv(_READ_BYTES) == b"" or self.kind == "slow"
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return False
        except OSError:
            return True


class Attackers:
    """All of them."""

    def __init__(self, attack: Attack) -> None:
        identity = attack.identity_pem or None
        context = client_context(attack.root_pem, identity) if attack.server_name else None
        # Whoever comes first is cut off first: the slow ones come last.
        kinds: list[tuple[Kind, int]] = [("idle", IDLE), ("deaf", DEAF), ("slow", SLOW)]
        self._all = [
            Attacker(attack, kind, number, context) for kind, many in kinds for number in range(many)
        ]
        self._by_fd: dict[int, Attacker] = {}
        self._poll = select.epoll()
        self._to_connect: queue.PriorityQueue[tuple[int, int, Attacker]] = queue.PriorityQueue()
        self._numbers = count()
        self._connected: queue.SimpleQueue[tuple[Attacker, socket.socket | None]] = queue.SimpleQueue()
        self._ended: list[Attacker] = []
        self._again = 0
        self._tries = 0
        for attacker in self._all:
            self._to_connect.put((_LATER, next(self._numbers), attacker))
        for _ in range(CONNECTORS):
            threading.Thread(target=self._connect, daemon=True).start()

    def _connect(self) -> None:
        while True:
            _, _, attacker = self._to_connect.get()
            sock = None
            with contextlib.suppress(OSError):
                sock = attacker.connect()
            self._connected.put((attacker, sock))

    def run(self) -> None:
        """Attack until standard input is closed; say when all are in place."""
        self._poll.register(sys.stdin.fileno(), select.EPOLLIN | select.EPOLLHUP)
        ready_at, is_ready = time.monotonic() + PLACED_S, False
        trickle_at = time.monotonic()
        while True:
            for fd, _ in self._poll.poll(0.05):
                if fd == sys.stdin.fileno():
                    return
                self._look(fd)
            self._take_connected()
            now = time.monotonic()
            if now >= trickle_at:
                trickle_at = now + 1.0
                self._trickle()
                self._come_again()
            if self._tries >= len(self._all):
                ready_at = min(ready_at, now + SETTLED_S)
            if now >= ready_at and not is_ready:
                is_ready = True
                os.write(sys.stdout.fileno(), b"ready\n")

    def _take_connected(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                attacker, sock = self._connected.get_nowait()
                self._tries += 1
                attacker.sock = sock
                if sock is None:
                    self._ended.append(attacker)
                    continue
                self._by_fd[sock.fileno()] = attacker
                # The deaf ones do not read, but see that they were cut off.
                events = 0 if attacker.kind == "deaf" else select.EPOLLIN
                self._poll.register(sock, events | select.EPOLLRDHUP)

    def _look(self, fd: int) -> None:
        attacker = self._by_fd[fd]
        if attacker.kind == "deaf" or attacker.has_ended():
            self._end(attacker)

    def _end(self, attacker: Attacker) -> None:
        assert attacker.sock is not None
        del self._by_fd[attacker.sock.fileno()]
        attacker.sock.close()
        attacker.sock = None
        self._ended.append(attacker)

    def _trickle(self) -> None:
        for attacker in list(self._by_fd.values()):
            if attacker.kind == "slow":
                try:
                    attacker.trickle()
                except OSError:
                    self._end(attacker)

    def _come_again(self) -> None:
        # The slow ones before the others, whose number does no more harm.
        self._ended.sort(key=lambda attacker: attacker.kind != "slow")
        again, self._ended = self._ended[:AGAIN_PER_S], self._ended[AGAIN_PER_S:]
        self._again += len(again)
        for attacker in again:
            self._to_connect.put((_NOW, next(self._numbers), attacker))

    def report(self) -> Report:
        """What has become of them."""
        found = Counter(attacker.kind for attacker in self._by_fd.values())
        return Report(slow=found["slow"], idle=found["idle"], deaf=found["deaf"], again=self._again)


def main() -> None:
    """Read an attack from standard input, attack until that is closed, write a report."""
    length = int.from_bytes(_read(8), "big")
    attackers = Attackers(msgspec.msgpack.decode(_read(length), type=Attack))
    attackers.run()
    os.write(sys.stdout.fileno(), msgspec.msgpack.encode(attackers.report()))
    # The connectors may hang in a handshake.
    os._exit(0)


def _read(length: int) -> bytes:
    # Not by Python's buffer, which would read ahead what epoll is to tell of.
    found = b""
    while len(found) < length and (chunk := os.read(sys.stdin.fileno(), length - len(found))):
        found += chunk
    return found


if __name__ == "__main__":
    main()
