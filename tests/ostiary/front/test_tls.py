"""The fronts' TLS against Python's ssl and hostile bytes: which certificates count, and what each end learns.

Handshakes are over a socket pair, both ends in this process and never blocking.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from ostiary.edge.tls import client_context
from ostiary.errors import Misconfigured, Unauthenticated
from ostiary.front.tls import ClientCertificates, FrontTLS, TLSSocket, front_tls
from tests.support.pki import DAY, Leaf, Root, common_name, identities_that_do_not_load

NAME = "node.shop.example"
ROOT = Root()
SERVER = ROOT.leaf(NAME)
YESTERDAY = dt.datetime.now(dt.UTC) - DAY


@dataclass(frozen=True, slots=True)
class Ends:
    server: TLSSocket
    client: ssl.SSLSocket


def tls(mode: ClientCertificates = "optional") -> FrontTLS:
    return front_tls(SERVER.identity_pem, ROOT.pem, client_certificates=mode)


@contextmanager
def connected(context: ssl.SSLContext, front: FrontTLS | None = None) -> Iterator[Ends]:
    ours, theirs = socket.socketpair()
    server = (front or tls()).accept(ours, exchange_s=0.2)
    theirs.setblocking(False)
    with context.wrap_socket(theirs, server_hostname=NAME, do_handshake_on_connect=False) as client:
        steps = [server.do_handshake, client.do_handshake]
        for _ in range(10):
            for step in list(steps):
                try:
                    step()
                    steps.remove(step)
                except (BlockingIOError, ssl.SSLWantReadError):
                    pass
        assert not steps
        yield Ends(server, client)
    server.close()


def verdict_on(leaf: Leaf) -> str | None:
    with connected(client_context(ROOT.pem, leaf.identity_pem)) as ends:
        peer = ends.server.peer
        assert peer is not None
        try:
            assert peer.verified_der() == leaf.der
        except Unauthenticated as exc:
            return exc.message
        return None


def test_a_good_certificate_is_the_peers() -> None:
    assert verdict_on(ROOT.leaf("agent.shop.example")) is None


def test_without_a_certificate_there_is_no_peer() -> None:
    with connected(client_context(ROOT.pem, None)) as ends:
        assert ends.server.peer is None


def test_a_root_of_the_same_name_is_another() -> None:
    assert "not issued under this service's root" in (verdict_on(Root().leaf("agent.shop.example")) or "")


def test_a_certificate_signed_by_itself_is_nobodys() -> None:
    root = Root("agent.shop.example")
    itself = Leaf(key=root._key, certificate=root.certificate)
    assert "self-signed" in (verdict_on(itself) or "")


def test_an_expired_certificate_is_nobodys() -> None:
    root = Root(not_before=YESTERDAY - DAY)
    front = front_tls(SERVER.identity_pem, root.pem, client_certificates="optional")
    leaf = root.issue(common_name("a"), ["a.example"], until=YESTERDAY)
    with connected(client_context(ROOT.pem, leaf.identity_pem), front) as ends:
        assert ends.server.peer is not None
        with pytest.raises(Unauthenticated, match="it has expired"):
            ends.server.peer.verified_der()


def test_a_certificate_with_a_broken_signature_is_nobodys() -> None:
    leaf = ROOT.leaf("a.example")
    broken = x509.load_der_x509_certificate(leaf.der[:-1] + bytes([leaf.der[-1] ^ 1]))
    assert "issuer's signature" in (verdict_on(Leaf(key=leaf.key, certificate=broken)) or "")


def test_the_verdict_is_the_connections_own() -> None:
    front, bad = tls(), Root().leaf("a.example")
    with (
        connected(client_context(ROOT.pem, bad.identity_pem), front) as first,
        connected(client_context(ROOT.pem, ROOT.leaf("b.example").identity_pem), front) as second,
    ):
        assert first.server.peer is not None
        assert second.server.peer is not None
        second.server.peer.verified_der()
        with pytest.raises(Unauthenticated):
            first.server.peer.verified_der()


def test_what_does_not_load_is_said_without_its_content() -> None:
    for identity in identities_that_do_not_load():
        with pytest.raises(Misconfigured, match="key and certificate do not load"):
            front_tls(identity, ROOT.pem, client_certificates="required")
    with pytest.raises(Misconfigured, match="trusted root"):
        front_tls(SERVER.identity_pem, b"nonsense", client_certificates="required")


def test_head_and_body_leave_in_one_record() -> None:
    with connected(client_context(ROOT.pem, None)) as ends:
        ends.server.sendall(b"head")
        ends.server.sendall(b"body")
        ends.server.flush()
        assert ends.client.recv(100) == b"headbody"


def test_a_read_that_would_wait_says_so_or_ends_at_its_deadline() -> None:
    with connected(client_context(ROOT.pem, None)) as ends:
        with pytest.raises(BlockingIOError):
            ends.server.recv()
        ends.server.setblocking(True)
        with pytest.raises(TimeoutError):
            ends.server.recv()


def test_a_reader_that_takes_nothing_is_met_by_the_deadline() -> None:
    with connected(client_context(ROOT.pem, None)) as ends:
        ends.server.setblocking(True)
        with pytest.raises(TimeoutError):
            ends.server.sendall(b"x" * (8 << 20))


def test_both_ways_to_end_are_an_end() -> None:
    with connected(client_context(ROOT.pem, None)) as ends:
        with pytest.raises((ssl.SSLWantReadError, ssl.SSLSyscallError)):
            ends.client.unwrap()
        assert ends.server.recv() == b""
    with connected(client_context(ROOT.pem, None)) as ends:
        ends.client.close()
        assert ends.server.recv() == b""


def test_the_end_is_told() -> None:
    with connected(client_context(ROOT.pem, None)) as ends:
        ends.client.send(b"never read")
        ends.server.shutdown(socket.SHUT_WR)
        assert ends.client.recv(10) == b""
        assert ends.server.discard(100) > 0


def test_a_closed_socket_touches_no_descriptor() -> None:
    """Its number may be another connection's by now."""
    with connected(client_context(ROOT.pem, None)) as ends:
        ends.server.sendall(b"x")
        ends.server.close()
        for act in (ends.server.flush, ends.server.recv):
            with pytest.raises(ConnectionResetError):
                act()


def test_what_is_no_tls_is_an_error_of_the_system() -> None:
    ours, theirs = socket.socketpair()
    server = tls().accept(ours, exchange_s=1)
    with theirs:
        theirs.sendall(b"GET / HTTP/1.1\r\n\r\n")
        with pytest.raises(OSError, match=r"(?i)http request|wrong version|packet length"):
            server.do_handshake()
    server.close()


def test_a_certificate_for_servers_is_no_clients() -> None:
    leaf = ROOT.issue(common_name("a"), ["a.example"], purposes=[ExtendedKeyUsageOID.SERVER_AUTH])
    assert "not for TLS clients" in (verdict_on(leaf) or "")


@pytest.mark.parametrize("flight", [0, 1, 2], ids=["hello", "certificate and finished", "request"])
def test_whatever_a_client_sends_ends_in_an_error_of_the_system(flight: int) -> None:
    """A mutated flight: pyOpenSSL's own errors, or worse, would take a front's thread along."""
    random = Random(flight)
    front, context = tls("required"), client_context(ROOT.pem, ROOT.leaf("a.example").identity_pem)
    refused = 0
    for _ in range(100):
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        server = front.accept(ours, exchange_s=0.1)
        arriving, leaving = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = context.wrap_bio(arriving, leaving, server_hostname=NAME)
        with theirs:
            for step in range(3):
                speak(client, hears_last=step == 2)
                flown = bytearray(leaving.read())
                if step == flight:
                    mutate(flown, random)
                theirs.sendall(flown)
                try:
                    server.do_handshake()
                    server.recv()
                except BlockingIOError:
                    with contextlib.suppress(BlockingIOError):
                        arriving.write(theirs.recv(1 << 16))
                except OSError:
                    refused += 1
                    break
        server.close()
    assert refused > 50


def speak(client: ssl.SSLObject, *, hears_last: bool) -> None:
    with contextlib.suppress(ssl.SSLError):
        client.do_handshake()
        if hears_last:
            client.write(b"GET / HTTP/1.1\r\n\r\n")


def mutate(flown: bytearray, random: Random) -> None:
    at = random.randrange(len(flown))
    match random.randrange(3):
        case 0:
            flown[at] ^= 1 << random.randrange(8)
        case 1:
            del flown[at : at + random.randrange(1, 20)]
        case 2:
            flown[at:at] = random.randbytes(random.randrange(1, 20))
