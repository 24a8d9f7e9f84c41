"""Clients that try to starve a front: none of them keeps another client from its response.

No deadline ends them meanwhile (`fronts.NEVER_S`): when the other is answered they are still there.
"""

from __future__ import annotations

import contextlib
import functools
import select
import socket
import ssl
import time
from collections.abc import Iterator, Sequence

import pytest

from ostiary.edge.tls import client_context
from ostiary.front.serve import listen_tcp
from tests.support.fronts import NAME, Running, Site, answer, ask, is_open, post
from tests.support.pki import Leaf
from tests.support.waiting import PATIENCE_S, at_least, until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    site = Site("required")
    yield site
    site.running.stop()


@pytest.fixture(scope="module")
def open_site() -> Iterator[Site]:
    site = Site("optional")
    yield site
    site.running.stop()


@pytest.mark.parametrize(
    "first_bytes",
    [
        pytest.param(b"", id="silent"),
        pytest.param(b"\x16", id="one byte of a hello"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00", id="the start of a hello"),
    ],
)
def test_clients_that_never_finish_their_hello_hold_nobody_up(site: Site, first_bytes: bytes) -> None:
    attackers = [socket.create_connection(site.running.address) for _ in range(20)]
    for attacker in attackers:
        attacker.sendall(first_bytes)
    time.sleep(0.1)
    _serves_beside(attackers, site, site.client)


def test_a_client_that_stops_in_the_handshake_holds_nobody_up(site: Site) -> None:
    attackers = []
    for _ in range(20):
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        hello = client_context(site.root.pem, None).wrap_bio(incoming, outgoing, server_hostname=NAME)
        with contextlib.suppress(ssl.SSLWantReadError):
            hello.do_handshake()
        attackers.append(socket.create_connection(site.running.address))
        attackers[-1].sendall(outgoing.read())
    time.sleep(0.2)
    _serves_beside(attackers, site, site.client)


def test_clients_that_trickle_a_head_hold_nobody_up(open_site: Site) -> None:
    attackers = [open_site.connect(None) for _ in range(10)]
    for attacker in attackers:
        attacker.sendall(b"GET / HT")
    for _ in range(5):
        time.sleep(0.1)
        for attacker in attackers:
            attacker.sendall(b"T")
    _serves_beside(attackers, open_site, None)


def test_a_trickled_head_is_ended_by_its_deadline() -> None:
    running = Running(listen_tcp("127.0.0.1", 0), None, head_s=0.5)
    with socket.create_connection(running.address) as slow, at_least(0.5):
        slow.sendall(b"GET / HT")
        until(functools.partial(_is_ended, slow, b"T"))
    running.stop()


def test_a_client_that_does_not_close_holds_nobody_up(open_site: Site) -> None:
    attackers = [open_site.connect(None) for _ in range(5)]
    for attacker in attackers:
        attacker.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    with open_site.connect(None) as sock:
        assert ask(sock)[0] == 200
    for attacker in attackers:
        assert answer(attacker)[0] == 200
        attacker.sendall(b"still here")
        attacker.sendall(b"and not reset")
        attacker.close()


def test_clients_that_trickle_a_body_hold_nobody_up(open_site: Site) -> None:
    """A thread each, and 96 of them would silence a service of threads."""
    attackers = [open_site.connect(None) for _ in range(96)]
    for attacker in attackers:
        attacker.sendall(post(b"x" * 900)[:-890])
    for _ in range(3):
        for attacker in attackers:
            attacker.sendall(b"x")
    _serves_beside(attackers, open_site, None)


def test_clients_that_never_read_hold_nobody_up(open_site: Site) -> None:
    attackers = [open_site.connect(None) for _ in range(20)]
    requests = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 200
    for attacker in attackers:
        attacker.setblocking(False)
        # As much as the front takes: once the answers wait, it stops reading.
        with contextlib.suppress(ssl.SSLWantWriteError):
            for _ in range(100):
                attacker.sendall(requests)
    with open_site.connect(None) as sock:
        assert ask(sock)[0] == 200
    for attacker in attackers:
        attacker.close()


def test_a_source_starves_itself_only() -> None:
    running = Running(listen_tcp("127.0.0.1", 0), None, connections=8)
    honest = socket.create_connection(running.address, PATIENCE_S, source_address=("127.0.0.3", 0))
    assert ask(honest)[0] == 200
    attackers = [
        socket.create_connection(running.address, source_address=("127.0.0.2", 0)) for _ in range(30)
    ]
    for attacker in attackers:
        with contextlib.suppress(ConnectionError):
            attacker.sendall(b"G")
    assert ask(honest)[0] == 200
    until(lambda: sum(map(is_open, attackers)) <= 4)
    for sock in (*attackers, honest):
        sock.close()
    running.stop()


def test_a_full_front_makes_room_by_dropping_who_waited_longest() -> None:
    running = Running(listen_tcp("127.0.0.1", 0), None, connections=8)
    attackers = [socket.create_connection(running.address) for _ in range(30)]
    for attacker in attackers:
        attacker.sendall(b"G")
    with socket.create_connection(running.address, timeout=PATIENCE_S) as sock:
        assert ask(sock)[0] == 200
    until(lambda: sum(map(is_open, attackers)) < 8)
    for attacker in attackers:
        attacker.close()
    running.stop()


def test_a_client_that_speaks_while_it_is_dropped_does_not_take_the_worker_along() -> None:
    """Its event and the newcomer's that takes its place are often told in one round of the loop."""
    running = Running(listen_tcp("127.0.0.1", 0), None, connections=8)
    workers = set()
    for _ in range(40):
        attackers = [socket.create_connection(running.address) for _ in range(12)]
        for attacker in attackers:
            with contextlib.suppress(ConnectionError):
                attacker.sendall(b"G")
        with socket.create_connection(running.address, timeout=PATIENCE_S) as sock:
            status, told = ask(sock)
            assert status == 200
            workers.add(told["worker"])
        for attacker in attackers:
            attacker.close()
    assert len(workers) == 1
    running.stop()


def test_a_front_that_is_full_again_and_again_serves() -> None:
    running = Running(listen_tcp("127.0.0.1", 0), None, connections=3)
    for _ in range(100):
        attackers = [socket.create_connection(running.address) for _ in range(6)]
        for attacker in attackers:
            with contextlib.suppress(ConnectionError):
                attacker.sendall(b"G")
        with socket.create_connection(running.address, timeout=PATIENCE_S) as sock:
            assert ask(sock)[0] == 200
        for attacker in attackers:
            attacker.close()
    running.stop()


def test_a_slow_body_is_ended_by_its_deadline() -> None:
    """The deadline of one exchange, shortened for the test, holds against a byte now and then."""
    running = Running(listen_tcp("127.0.0.1", 0), None, exchange_s=0.5)
    with socket.create_connection(running.address, timeout=PATIENCE_S) as slow:
        slow.sendall(post(b"x" * 900)[:-899])
        until(functools.partial(_is_ended, slow, b"x"))
    running.stop()


def _is_ended(sock: socket.socket, more: bytes) -> bool:
    """Send a little more; whether the other end has had enough, and perhaps said so."""
    try:
        sock.sendall(more)
    except OSError:
        return True
    return bool(select.select([sock], [], [], 0)[0])


def _serves_beside(attackers: Sequence[socket.socket], site: Site, leaf: Leaf | None) -> None:
    with site.connect(leaf) as sock:
        assert ask(sock)[0] == 200
    assert all(map(is_open, attackers)), "none was given up for it"
    for attacker in attackers:
        attacker.close()
