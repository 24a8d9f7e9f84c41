"""The manager's endpoint: who connects learns whose key is here, by the name that was asked for."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from certmgr.listener import MAX_CONNECTIONS, ProofListener
from ostiary.front.serve import listen_tcp
from tests.support.pki import Root
from tests.support.ports import free_port
from tests.support.running_manager import until
from tests.support.waiting import PATIENCE_S

ROOT = Root()
LEAVES = {name: ROOT.leaf(name) for name in ("a.nodes.example", "b.nodes.example")}


@pytest.fixture
def port() -> Iterator[int]:
    sock = listen_tcp("127.0.0.1", free_port())
    listener = ProofListener(
        sock,
        identity_pem_of=lambda host: LEAVES[host].identity_pem if host in LEAVES else None,
    )
    running = threading.Thread(target=listener.run)
    running.start()
    yield sock.getsockname()[1]
    listener.stop()
    running.join(PATIENCE_S)
    assert not running.is_alive()


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


def test_silent_connections_do_not_block_the_endpoint_for_long(port: int) -> None:
    silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(3 * MAX_CONNECTIONS)]
    try:
        for each in silent:
            each.send(b"GET / HTTP/1.1\r\n\r\n")  # no TLS: ends at once

        def answers() -> bool:
            try:
                return bool(shown(port, "a.nodes.example"))
            except OSError:
                return False

        until(answers)
    finally:
        for each in silent:
            each.close()
