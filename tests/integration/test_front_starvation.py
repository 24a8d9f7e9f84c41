"""Clients that try to starve a front: none of them delays another client's response."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Iterator

import pytest

from ostiary.edge.tls import client_context
from ostiary.front.serve import listen_tcp
from tests.support.fronts import HEAD_S, NAME, Running, Site, answer, ask, post
from tests.support.pki import Leaf

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
    _serves_quickly(site, site.client)
    for attacker in attackers:
        attacker.close()


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
    _serves_quickly(site, site.client)
    for attacker in attackers:
        attacker.close()


def test_clients_that_trickle_a_head_hold_nobody_up_and_are_closed(open_site: Site) -> None:
    attackers = [open_site.connect(None) for _ in range(10)]
    for attacker in attackers:
        attacker.sendall(b"GET / HT")
    for _ in range(5):
        time.sleep(0.1)
        for attacker in attackers:
            attacker.sendall(b"T")
    _serves_quickly(open_site, None)
    started = time.monotonic()
    for attacker in attackers:
        attacker.settimeout(5)
        with contextlib.suppress(ConnectionResetError):
            assert attacker.recv(100) == b""
        attacker.close()
    assert time.monotonic() - started < HEAD_S + 2


def test_a_client_that_does_not_close_holds_nobody_up(open_site: Site) -> None:
    """Without our close, gunicorn's graceful close waits up to 2 s for the client, on the main loop."""
    attackers = [open_site.connect(None) for _ in range(5)]
    for attacker in attackers:
        attacker.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    _serves_quickly(open_site, None)
    for attacker in attackers:
        assert answer(attacker)[0] == 200
        attacker.close()


def test_a_full_front_makes_room_by_dropping_who_waited_longest() -> None:
    running = Running(listen_tcp("127.0.0.1", 0), None, connections=8)
    attackers = [socket.create_connection(running.address) for _ in range(30)]
    for attacker in attackers:
        attacker.sendall(b"G")
    started = time.monotonic()
    with socket.create_connection(running.address, timeout=5) as sock:
        assert ask(sock)[0] == 200
    assert time.monotonic() - started < HEAD_S / 2
    for attacker in attackers:
        attacker.close()
    running.stop()


def test_a_client_that_speaks_while_it_is_dropped_does_not_take_the_worker_along() -> None:
    """Its event and the newcomer's that takes its place are often told in one round of the poller."""
    running = Running(listen_tcp("127.0.0.1", 0), None, connections=8)
    workers = set()
    for _ in range(40):
        attackers = [socket.create_connection(running.address) for _ in range(12)]
        for attacker in attackers:
            with contextlib.suppress(ConnectionError):
                attacker.sendall(b"G")
        with socket.create_connection(running.address, timeout=5) as sock:
            status, told = ask(sock)
            assert status == 200
            workers.add(told["worker"])
        for attacker in attackers:
            attacker.close()
    assert len(workers) == 1
    running.stop()


def test_a_slow_body_is_ended_by_its_deadline() -> None:
    """The deadline of one exchange, shortened for the test, holds against a byte now and then."""
    running = Running(listen_tcp("127.0.0.1", 0), None, exchange_s=0.5)
    with socket.create_connection(running.address, timeout=5) as slow:
        slow.sendall(post(b"x" * 100)[:-90])
        started = time.monotonic()
        with contextlib.suppress(OSError):
            for _ in range(30):
                slow.sendall(b"x")
                time.sleep(0.1)
        assert time.monotonic() - started < 3
    running.stop()


def _serves_quickly(site: Site, leaf: Leaf | None) -> None:
    started = time.monotonic()
    with site.connect(leaf) as sock:
        assert ask(sock)[0] == 200
    assert time.monotonic() - started < HEAD_S / 2  # who waited for an attacker would wait for its deadline
