"""Malformed and smuggling requests get their refusal and nothing else, plain and over TLS; odd ones that are
in order get their answers.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from ostiary.front.serve import listen_tcp
from tests.support.fronts import Running, Site
from tests.support.malformed import CASES, Case, Listener, check, first_answer, until_closed, with_host
from tests.support.waiting import PATIENCE_S

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def plain() -> Iterator[Listener]:
    running = Running(listen_tcp("127.0.0.1", 0), None)
    yield Listener(
        name="plain", connect=lambda: socket.create_connection(running.address, timeout=PATIENCE_S)
    )
    running.stop()


@pytest.fixture(scope="module")
def tls() -> Iterator[Listener]:
    site = Site("required")
    yield Listener(name="TLS", connect=lambda: site.connect(site.client))
    site.running.stop()


def _named(case: Case) -> str:
    return case.name


@pytest.mark.parametrize("case", CASES, ids=_named)
def test_it_is_refused_and_the_connection_closes(plain: Listener, case: Case) -> None:
    check(plain, case)


@pytest.mark.parametrize("case", CASES, ids=_named)
def test_it_is_refused_however_it_arrives(plain: Listener, case: Case) -> None:
    """Each piece is a packet of its own, as far as the kernel lets it be."""
    check(plain, case, piece_bytes=7 if len(case.sent) < 500 else 200)


GET = b"GET / HTTP/1.1\r\nHost: x\r\n"
CHUNKED = b"@POST@Transfer-Encoding: chunked\r\n"
LAST = b"GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize(
    ("sent", "statuses"),
    [
        pytest.param(GET.replace(b"/ ", b"http://other/ ") + b"\r\n", [200], id="an absolute URI"),
        pytest.param(b"\r\n" + GET + b"\r\n", [200], id="an empty line first"),
        pytest.param(b"GET / HTTP/1.1\r\nhOsT:x\r\nX:\t z \t\r\n\r\n", [200], id="names in any case"),
        pytest.param(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", [200], id="HTTP/1.0, no Host"),
        pytest.param(GET + b"Upgrade: h2c\r\nConnection: Upgrade\r\n\r\n", [200], id="another upgrade"),
        pytest.param(b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", [404], id="an asterisk for OPTIONS"),
        pytest.param(GET + b"Content-Length: 5\r\n\r\nhello", [200], id="a body that nobody wants"),
        pytest.param(
            CHUNKED + b'\r\n2;a="b"\r\n{}\r\n0\r\nX: y\r\n\r\n', [200], id="an extension and a trailer"
        ),
        pytest.param(
            CHUNKED + b"Expect: 100-continue\r\n\r\n2\r\n{}\r\n0\r\n\r\n", [200], id="an expectation"
        ),
        pytest.param((GET + b"\r\n") * 3, [200, 200, 200], id="three at once"),
        pytest.param(
            b"@POST@Content-Length: %d\r\n\r\n%s\r\n" % (len(GET) + 2, GET), [400], id="one in another's body"
        ),
    ],
)
def test_what_is_odd_and_in_order_is_answered_and_what_follows_it_too(
    plain: Listener, sent: bytes, statuses: list[int]
) -> None:
    with plain.connect() as sock:
        sock.sendall(sent.replace(b"@POST@", with_host(plain)) + LAST)
        received, found = until_closed(sock), []
        while received:
            status, received = first_answer(received)
            found.append(status)
    assert found == [*statuses, 404]


# Python's ssl can't end one direction only.
@pytest.mark.parametrize("case", [case for case in CASES if not case.ends], ids=_named)
def test_it_is_refused_over_tls(tls: Listener, case: Case) -> None:
    check(tls, case)
