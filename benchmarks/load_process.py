"""The process of a load (benchmarks/load.py): all connections in one thread, by epoll, with little CPU.

    python -m benchmarks.load_process       # started by benchmarks.load.run_load

It takes 20 to 40 us of CPU per request on the machine that it measures. It reads a `Load`, connects, says
"ready", waits for "go", and writes "done" and a `Measured`.
"""

from __future__ import annotations

import contextlib
import gc
import select
import socket
import ssl
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import count, cycle

import msgspec

from benchmarks.load import MAX_NUMBER, NUMBER, Load, Measured
from ostiary.edge.tls import client_context

TIMEOUT_S = 20.0
"""Longer than any service keeps a request."""
PATIENCE_S = 5.0
"""Of a patient load, for connecting and for answers after its end."""
_READ_BYTES = 64 << 10
_RECORD_BYTES = 16 << 10
_FEW = 64
# `openssl ocsp` answers in HTTP/1.0.
_GOOD = (b"HTTP/1.1 2", b"HTTP/1.0 2")


class Numbers:
    """The numbers in the requests of one load."""

    def __init__(self, first: int) -> None:
        self._following = count(first)

    def take(self, places: int) -> tuple[int, ...]:
        """As many as a request has places."""
        return tuple(next(self._following) % MAX_NUMBER for _ in range(places))

    def requests(self, templates: Sequence[bytes], *, repeats: bool) -> Iterator[bytes]:
        """The requests, with numbers in their places."""
        compiled = [_compile(template) for template in templates]
        following = self._following
        for template, places in cycle(compiled) if repeats else compiled:
            if places == 1:
                yield template % (next(following) % MAX_NUMBER)
            else:
                yield template % self.take(places) if places else template


def _compile(template: bytes) -> tuple[bytes, int]:
    marker = NUMBER.encode()
    places = template.count(marker)
    if not places:
        return template, 0
    return template.replace(b"%", b"%%").replace(marker, b"%%0%dd" % len(marker)), places


class Closed(Exception):
    """The server closed the connection, or reset it."""


class Connection:
    """One client's connection, made again where it was closed."""

    def __init__(
        self, load: Load, number: int, context: ssl.SSLContext | None, source: Iterator[bytes]
    ) -> None:
        self._load = load
        self._number = number
        self._context = context
        self._received = b""
        self._left = load.per_connection
        self.source = source
        self.request = b""
        self.begun_ns = 0
        self.reconnected = 0
        try:
            self.sock = self._connect()
        except OSError:
            assert load.is_patient, "cannot connect"
            self.sock = socket.socket()
            self.break_off()

    def break_off(self) -> None:
        """Close the connection; whoever uses it next connects anew."""
        self.sock.close()

    def _connect(self) -> socket.socket:
        address = self._load.address
        timeout_s = PATIENCE_S if self._load.is_patient else TIMEOUT_S
        if isinstance(address, str):
            raw = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            raw.settimeout(timeout_s)
            raw.connect(address)
        else:
            here = f"127.0.0.{1 + self._number % self._load.sources}"
            raw = socket.create_connection(address, timeout=timeout_s, source_address=(here, 0))
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._context is None:
            return raw
        return self._context.wrap_socket(raw, server_hostname=self._load.server_name)

    def reconnect(self) -> None:
        """Connect anew; OSError where that fails."""
        self.sock.close()
        self._received = b""
        self._left = self._load.per_connection
        self.reconnected += 1
        self.sock = self._connect()

    def is_spent(self) -> bool:
        """Whether the connection has had all the requests that it is to have."""
        if not self._load.per_connection:
            return False
        self._left -= 1
        return self._left < 0

    def send(self, request: bytes) -> None:
        # SSLSocket.sendall costs some us; its `send` writes a record at once.
        try:
            if len(request) <= _RECORD_BYTES and self._context is not None:
                self.sock.send(request)
            else:
                self.sock.sendall(request)
        except OSError as exc:
            raise Closed from exc

    def receive(self) -> bytes | None:
        """Read what is there; the whole answer once it is complete."""
        try:
            chunk = self.sock.recv(_READ_BYTES)
        except OSError as exc:
            raise Closed from exc
        if not chunk:
            raise Closed
        received = self._received + chunk if self._received else chunk
        if not _is_complete(received):
            self._received = received
            return None
        self._received = b""
        return received

    def exchange(self, request: bytes) -> bytes:
        """One request and its answer."""
        self.send(request)
        while (answer := self.receive()) is None:
            pass
        return answer


def _is_complete(received: bytes) -> bool:
    end = received.find(b"\r\n\r\n")
    if end < 0:
        return False
    head = received[:end].lower()
    at = head.find(b"content-length:")
    if at >= 0:
        length = head[at + len(b"content-length:") :].split(b"\r\n", 1)[0]
        return len(received) - end - 4 >= int(length)
    return b"transfer-encoding: chunked" in head and received.endswith(b"\r\n0\r\n\r\n")


class Driver:
    """Keeps as many requests in flight as asked, until the time is over and all are answered."""

    def __init__(self, load: Load, connections: Sequence[Connection]) -> None:
        self._load = load
        self._connections = connections
        self._idle = deque(connections)
        self._by_fd: dict[int, Connection] = {}
        self._poll = select.epoll()
        self._end_ns = 0
        for connection in connections:
            self._watch(connection)
        self._waiting: set[Connection] = set()
        self._latencies: list[float] = []
        self._answer = b""
        self._refused = self._unanswered = 0

    def _watch(self, connection: Connection) -> None:
        fd = connection.sock.fileno()
        if fd >= 0:
            self._by_fd[fd] = connection
            self._poll.register(fd, select.EPOLLIN)

    def run(self) -> Measured:
        """Drive the load; what was measured."""
        began_ns, began_cpu = time.perf_counter_ns(), time.process_time()
        until_ns = began_ns + int(self._load.seconds * 1e9)
        self._end_ns = until_ns + int((PATIENCE_S if self._load.is_patient else TIMEOUT_S) * 1e9)
        for _ in range(self._load.in_flight or len(self._connections)):
            self._start()
        while self._waiting:
            events = self._poll.poll(PATIENCE_S)
            ready = [self._by_fd[fd] for fd, _ in events]
            for connection, sock in [(each, each.sock) for each in ready]:
                # Not where it was made anew since: its number may be another's, and nothing is there to read.
                if connection.sock is sock:
                    self._read(connection, until_ns)
            if not events and time.perf_counter_ns() > self._end_ns:
                self._give_up()
                break
        elapsed_s = (time.perf_counter_ns() - began_ns) / 1e9
        return Measured(
            elapsed_s=elapsed_s,
            latencies_s=self._latencies,
            client_s=time.process_time() - began_cpu,
            last_answer=self._answer,
            refused=self._refused,
            unanswered=self._unanswered,
            reconnected=sum(connection.reconnected for connection in self._connections),
        )

    def _start(self) -> None:
        """Send the next request on the connection that has been idle longest; nothing where none has one."""
        while self._idle:
            connection = self._idle.popleft()
            request = next(connection.source, None)
            if request is None:
                continue
            connection.request = request
            connection.begun_ns = time.perf_counter_ns()
            self._waiting.add(connection)
            if connection.is_spent():
                self._again(connection)
            else:
                self._send(connection)
            return

    def _send(self, connection: Connection) -> None:
        try:
            connection.send(connection.request)
        except Closed:
            self._again(connection)

    def _read(self, connection: Connection, until_ns: int) -> None:
        try:
            answer = connection.receive()
        except Closed:
            self._again(connection)
            return
        if answer is None:
            return
        now_ns = time.perf_counter_ns()
        self._latencies.append((now_ns - connection.begun_ns) / 1e9)
        self._answer = answer
        if not answer.startswith(_GOOD):
            self._refused += 1
            assert self._load.is_patient, f"refused: {answer[:1500]!r}"
        self._waiting.discard(connection)
        self._idle.append(connection)
        if now_ns < until_ns:
            self._start()

    def _again(self, connection: Connection) -> None:
        """Connect anew, and send again what was not answered; its time runs on."""
        assert self._load.is_patient or self._load.per_connection, "the server closed a connection"
        self._by_fd.pop(connection.sock.fileno(), None)
        while time.perf_counter_ns() < self._end_ns:
            with contextlib.suppress(OSError, Closed):
                connection.reconnect()
                if connection in self._waiting:
                    connection.send(connection.request)
                self._watch(connection)
                return
            time.sleep(0.01)

    def _give_up(self) -> None:
        assert self._load.is_patient, f"no answer within {TIMEOUT_S} s"
        self._unanswered = len(self._waiting)
        now_ns = time.perf_counter_ns()
        self._latencies += [(now_ns - connection.begun_ns) / 1e9 for connection in self._waiting]


def connect(load: Load, numbers: Numbers) -> list[Connection]:
    """All connections of a load, each used already."""
    shared = numbers.requests(load.requests, repeats=load.repeats)
    contexts: list[ssl.SSLContext | None] = [None]
    if load.server_name:
        contexts = [client_context(load.root_pem, identity.pem) for identity in load.identities]
        contexts = contexts or [client_context(load.root_pem, None)]
    own = [
        numbers.requests(identity.requests, repeats=load.repeats) if identity.requests else shared
        for identity in load.identities
    ] or [shared]
    connections = []
    for number in range(load.connections):
        connection = Connection(load, number, contexts[number % len(contexts)], own[number % len(own)])
        # At once: a front gives up who says nothing after a handshake.
        for _ in range(3 if load.connections <= _FEW else 1):
            _warm_up(load, connection)
        connections.append(connection)
    return connections


def _warm_up(load: Load, connection: Connection) -> None:
    request = next(connection.source, None)
    assert request is not None, "there are fewer requests than connections"
    try:
        answer = connection.exchange(request)
    except Closed:
        assert load.is_patient, "the server closed a connection"
        connection.break_off()
        return
    assert load.is_patient or answer.startswith(_GOOD), f"refused: {answer[:1500]!r}"


def main() -> None:
    """Read a load from standard input, run it, write what was measured to standard output."""
    length = int.from_bytes(sys.stdin.buffer.read(8), "big")
    load = msgspec.msgpack.decode(sys.stdin.buffer.read(length), type=Load)
    numbers = Numbers(load.first_number)
    driver = Driver(load, connect(load, numbers))
    gc.collect()
    gc.disable()
    _say(b"ready\n")
    assert sys.stdin.buffer.readline() == b"go\n"
    measured = driver.run()
    _say(b"done\n")
    _say(msgspec.msgpack.encode(measured))


def _say(message: bytes) -> None:
    sys.stdout.buffer.write(message)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
