"""The manager's endpoint: who connects learns whose key is here, by the name that was asked for."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Iterator

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from certmgr.listener import MAX_CONNECTIONS, ProofListener
from ostiary.front.serve import listen_tcp
from tests.support.fronts import is_open
from tests.support.pki import Root
from tests.support.running_manager import until
from tests.support.waiting import PATIENCE_S

ROOT = Root()
LEAVES = {name: ROOT.leaf(name) for name in ("a.nodes.example", "b.nodes.example")}


@pytest.fixture
def port() -> Iterator[int]:
    sock = listen_tcp("127.0.0.1", 0)
    port: int = sock.getsockname()[1]
    listener = ProofListener(
        sock,
        identity_pem_of=lambda host: LEAVES[host].identity_pem if host in LEAVES else None,
    )
    loop = asyncio.new_event_loop()
    serving = loop.create_task(listener.run())
    thread = threading.Thread(target=loop.run_until_complete, args=(asyncio.wait([serving]),))
    thread.start()
    yield port
    loop.call_soon_threadsafe(serving.cancel)
    thread.join(PATIENCE_S)
    assert serving.cancelled()
    loop.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def shown(port: int, name: str | None) -> bytes:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as sock,
        context.wrap_socket(sock, server_hostname=name) as tls,
    ):
        assert tls.version() == "TLSv1.3"
        return tls.getpeercert(True) or b""


def test_each_name_is_answered_with_its_own_certificate(port: int) -> None:
    for name, leaf in LEAVES.items():
        for _ in range(2):
            assert shown(port, name) == leaf.certificate.public_bytes(Encoding.DER)


@pytest.mark.parametrize("name", ["c.nodes.example", None])
def test_another_name_gets_an_alert(port: int, name: str | None) -> None:
    with pytest.raises(ssl.SSLError):
        shown(port, name)


def test_who_waits_longest_makes_room(port: int) -> None:
    """One address has half of the room; its next connection costs it its oldest."""
    waiting = [hello(port) for _ in range(MAX_CONNECTIONS)]
    until(lambda: sum(map(is_open, waiting)) == MAX_CONNECTIONS // 2)
    assert not any(map(is_open, waiting[: MAX_CONNECTIONS // 2]))
    assert shown(port, "a.nodes.example") == LEAVES["a.nodes.example"].certificate.public_bytes(Encoding.DER)
    assert [is_open(each) for each in waiting[MAX_CONNECTIONS // 2 :]].count(False) == 1
    for each in waiting:
        each.close()


def test_a_client_that_never_finishes_is_disconnected(port: int) -> None:
    with hello(port) as sock:
        sock.settimeout(PATIENCE_S)
        assert sock.recv(1) == b""


def test_what_is_no_tls_is_disconnected_at_once(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as sock:
        sock.send(b"GET / HTTP/1.1\r\n\r\n")
        assert sock.recv(1) == b""


def hello(port: int) -> socket.socket:
    """Return a connection that began a record of TLS, and sends no more."""
    sock = socket.create_connection(("127.0.0.1", port))
    sock.send(b"\x16\x03\x01\x02\x00\x01\x00")
    return sock
