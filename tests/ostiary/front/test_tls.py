"""The fronts' TLS against Python's ssl and hostile bytes: which certificates count, and what each end learns.

Both ends are in this process and speak over memory.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID
from OpenSSL import SSL

from ostiary.edge.tls import client_context
from ostiary.errors import Misconfigured
from ostiary.front.tls import (
    RECORD_BYTES,
    ClientCertificates,
    FrontTLS,
    TLSConnection,
    TLSEnded,
    TLSError,
    front_tls,
)
from tests.support.pki import DAY, Leaf, Root, common_name, identities_that_do_not_load

NAME = "node.shop.example"
ROOT = Root()
SERVER = ROOT.leaf(NAME)
YESTERDAY = dt.datetime.now(dt.UTC) - DAY


@dataclass(frozen=True, slots=True)
class Ends:
    """Both ends of a connection; what one says the other has heard when `exchange` returns."""

    server: TLSConnection
    client: ssl.SSLObject
    arriving: ssl.MemoryBIO
    leaving: ssl.MemoryBIO

    def exchange(self) -> bytes:
        """Carry what waits to the other end until nobody has more to say; return what the server reads."""
        heard = b""
        while said := self.leaving.read():
            heard += self.server.receive(said)
            self.arriving.write(self.server.to_send())
            with contextlib.suppress(ssl.SSLWantReadError):
                self.client.do_handshake()
        return heard


def tls(mode: ClientCertificates = "optional", **options: Any) -> FrontTLS:
    return front_tls(SERVER.identity_pem, ROOT.pem, client_certificates=mode, **options)


@contextmanager
def connected(context: ssl.SSLContext, front: FrontTLS | None = None) -> Iterator[Ends]:
    arriving, leaving = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(arriving, leaving, server_hostname=NAME)
    ends = Ends((front or tls()).accept(), client, arriving, leaving)
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    ends.exchange()
    assert ends.server.is_established
    yield ends


def shown_by(ends: Ends) -> tuple[bytes, str | None]:
    shown = ends.server.client_certificate()
    assert shown is not None
    return shown


def verdict_on(leaf: Leaf) -> str | None:
    with connected(client_context(ROOT.pem, leaf.identity_pem)) as ends:
        der, problem = shown_by(ends)
        assert der == leaf.der
        return problem


def test_a_good_certificate_is_the_peers() -> None:
    assert verdict_on(ROOT.leaf("agent.shop.example")) is None


def test_without_a_certificate_there_is_no_peer() -> None:
    with connected(client_context(ROOT.pem, None)) as ends:
        assert ends.server.client_certificate() is None


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
        assert shown_by(ends)[1] == "it has expired"


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
        assert shown_by(second)[1] is None
        assert shown_by(first)[1] is not None


def test_what_does_not_load_is_said_without_its_content() -> None:
    for identity in identities_that_do_not_load():
        with pytest.raises(Misconfigured, match="key and certificate do not load"):
            front_tls(identity, ROOT.pem, client_certificates="required")
    with pytest.raises(Misconfigured, match="trusted root"):
        front_tls(SERVER.identity_pem, b"nonsense", client_certificates="required")


def test_what_is_said_is_heard_both_ways() -> None:
    with connected(client_context(ROOT.pem, None)) as ends:
        ends.client.write(b"question")
        assert ends.exchange() == b"question"
        ends.arriving.write(ends.server.encrypt(memoryview(b"x" * RECORD_BYTES)))
        assert ends.client.read(2 * RECORD_BYTES) == b"x" * RECORD_BYTES


def test_the_clients_end_is_told_with_what_came_before_it() -> None:
    with connected(client_context(ROOT.pem, None)) as ends:
        ends.client.write(b"last words")
        with pytest.raises(ssl.SSLWantReadError):
            ends.client.unwrap()
        with pytest.raises(TLSEnded) as ended:
            ends.exchange()
        assert ended.value.plaintext == b"last words"
        # RFC 8446 section 6.1: either end may close its own direction, and read on in the other.
        ends.arriving.write(ends.server.encrypt(b"answer"))
        assert ends.client.read(10) == b"answer"


def test_the_servers_end_is_told() -> None:
    with connected(client_context(ROOT.pem, None)) as ends:
        ends.arriving.write(ends.server.close())
        assert ends.client.read(10) == b""


def test_a_client_that_has_tls_work_for_nothing_is_refused() -> None:
    """A thousand records of one byte are fine; as many more without a request's end are not."""
    with connected(client_context(ROOT.pem, None)) as ends:
        for _ in range(2):
            for _ in range(3000):
                ends.client.write(b"x")
            assert ends.exchange() == b"x" * 3000
            ends.server.begin_request()
        for _ in range(9000):
            ends.client.write(b"x")
        with pytest.raises(TLSError, match="more records than data"):
            ends.exchange()


def test_what_is_no_tls_is_an_error() -> None:
    with pytest.raises(TLSError, match=r"(?i)http request|wrong version|packet length"):
        tls().accept().receive(b"GET / HTTP/1.1\r\n\r\n")


def only_1_2(context: ssl.SSLContext) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context


def test_tls_1_2_is_spoken_where_the_front_says_so() -> None:
    leaf = ROOT.leaf("agent.shop.example")
    context = only_1_2(client_context(ROOT.pem, leaf.identity_pem))
    with connected(context, tls("required", oldest="TLS 1.2")) as ends:
        assert ends.client.version() == "TLSv1.2"
        assert shown_by(ends) == (leaf.der, None)
    with pytest.raises(TLSError, match="unsupported protocol"), connected(context, tls("required")):
        pass


@pytest.mark.parametrize(
    "cipher", ["AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-SHA256", "DHE-RSA-AES128-GCM-SHA256"]
)
def test_of_tls_1_2_only_what_1_3_left_in_is_spoken(cipher: str) -> None:
    context = only_1_2(client_context(ROOT.pem, None))
    context.set_ciphers(cipher)
    with pytest.raises(TLSError, match="no shared cipher"), connected(context, tls(oldest="TLS 1.2")):
        pass


def test_tls_1_2_without_the_extended_master_secret_is_refused() -> None:
    context = only_1_2(client_context(ROOT.pem, None))
    # Python's ssl has no name for the option.
    context.options |= 1 << 0  # SSL_OP_NO_EXTENDED_MASTER_SECRET (openssl/ssl.h)
    with pytest.raises(TLSError, match="extended master secret"), connected(context, tls(oldest="TLS 1.2")):
        pass


def test_an_ocsp_answer_is_stapled_for_who_asks() -> None:
    context = client_context(ROOT.pem, None)
    asked: list[bytes] = []
    # Whatever it says, it must parse: OpenSSL decodes what it staples.
    answer = ocsp.OCSPResponseBuilder.build_unsuccessful(ocsp.OCSPResponseStatus.TRY_LATER)
    der = answer.public_bytes(Encoding.DER)

    def staple() -> bytes:
        asked.append(der)
        return der

    # Python's ssl does not ask; pyOpenSSL's client does.
    front = tls(staple=staple)
    with connected(context, front):
        assert asked == []
    assert stapled_to_a_client_of(front) == der
    assert asked == [der]


def stapled_to_a_client_of(front: FrontTLS) -> bytes:
    heard: list[bytes] = []
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)

    def hear(_connection: SSL.Connection, answer: bytes, _data: object) -> bool:
        heard.append(answer)
        return True

    context.set_ocsp_client_callback(hear)
    client, server = SSL.Connection(context, None), front.accept()
    client.set_connect_state()
    client.request_ocsp()
    for _ in range(4):
        with contextlib.suppress(SSL.WantReadError):
            client.do_handshake()
        with contextlib.suppress(SSL.WantReadError):
            server.receive(client.bio_read(1 << 16))
            client.bio_write(server.to_send())
    return heard[0]


def test_a_certificate_for_servers_is_no_clients() -> None:
    leaf = ROOT.issue(common_name("a"), ["a.example"], purposes=[ExtendedKeyUsageOID.SERVER_AUTH])
    assert "not for TLS clients" in (verdict_on(leaf) or "")


@pytest.mark.parametrize("flight", [0, 1, 2], ids=["hello", "certificate and finished", "request"])
def test_whatever_a_client_sends_ends_in_an_error_of_ours(flight: int) -> None:
    """A mutated flight: pyOpenSSL's own errors, or worse, would take a front's worker along."""
    random = Random(flight)
    front, context = tls("required"), client_context(ROOT.pem, ROOT.leaf("a.example").identity_pem)
    refused = 0
    for _ in range(100):
        server = front.accept()
        arriving, leaving = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = context.wrap_bio(arriving, leaving, server_hostname=NAME)
        for step in range(3):
            speak(client, hears_last=step == 2)
            flown = bytearray(leaving.read())
            if step == flight:
                mutate(flown, random)
            try:
                server.receive(bytes(flown))
            except (TLSError, TLSEnded):
                refused += 1
                break
            arriving.write(server.to_send())
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
