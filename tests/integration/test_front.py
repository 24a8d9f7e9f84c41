"""Fronts as real processes: gunicorn and TLS 1.3, who is admitted, and what each refusal says."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ostiary.edge.tls import client_context
from ostiary.front.serve import listen_tcp, listen_unix
from ostiary.front.tls import front_tls
from tests.support.fronts import NAME, Running, Site, answer, ask, post
from tests.support.killing import is_alive
from tests.support.pki import Root
from tests.support.waiting import PATIENCE_S, RUNS_OUT_S, at_least, until

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


def test_a_client_is_served_and_known_by_its_certificate(site: Site) -> None:
    assert site.running.ready == b"R"
    with site.connect(site.client) as sock:
        assert sock.version() == "TLSv1.3"
        for _ in range(3):
            status, body = ask(sock)
            assert (status, body["certificate"], body["scheme"]) == (200, site.client.der.hex(), "https")


def test_a_certificate_is_parsed_once_per_connection(site: Site) -> None:
    with site.connect(site.client) as sock:
        first = ask(sock)[1]["parsed"]
        assert [ask(sock)[1]["parsed"] for _ in range(3)] == [first] * 3
    with site.connect(site.client) as sock:
        assert ask(sock)[1]["parsed"] == first + 1


def test_connections_that_never_pause_leave_threads_for_others(site: Site) -> None:
    """More of them than the workers have threads: a thread stays with its connection only while
    nobody waits.

    None of them stops before the last has its answers: one that waited for another to stop would wait for
    ever.
    """
    answered, failed = Counter(dict.fromkeys(range(16), 0)), threading.Event()

    def ask_on(number: int) -> None:
        try:
            with site.connect(site.client) as sock:
                while min(answered.values()) < 5 and not failed.is_set():
                    assert ask(sock)[0] == 200
                    answered[number] += 1
        except BaseException:
            failed.set()
            raise

    with ThreadPoolExecutor(16) as pool:
        for future in [pool.submit(ask_on, number) for number in answered]:
            future.result()


def test_a_client_without_certificate_is_refused_where_one_is_required(site: Site) -> None:
    with site.connect(None) as sock, pytest.raises(OSError, match=r"(?i)certificate required|reset"):
        ask(sock)


def test_a_client_of_another_root_is_told_so_on_every_request(site: Site, open_site: Site) -> None:
    for where in (site, open_site):
        with where.connect(Root().leaf("agent.shop.example")) as sock:
            for path in (b"/", b"/nowhere"):
                status, problem = ask(sock, b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % path)
                assert (status, problem["field"]) == (401, "certificate")
                assert problem["detail"] == (
                    "client certificate: it was not issued under this service's root"
                )


def test_a_client_without_certificate_is_served_where_one_is_optional(open_site: Site) -> None:
    with open_site.connect(None) as sock:
        assert ask(sock)[1]["certificate"] is None
    with open_site.connect(open_site.client) as sock:
        assert ask(sock)[1]["certificate"] == open_site.client.der.hex()


def test_the_front_speaks_after_the_handshake_so_that_no_first_request_waits_for_an_ack(site: Site) -> None:
    """A client without TCP_NODELAY keeps its request back until its part of the handshake is acknowledged."""
    with site.connect(site.client) as sock:
        assert select.select([sock], [], [], PATIENCE_S)[0] == [sock]
        assert ask(sock)[0] == 200


def test_no_session_is_resumed(site: Site) -> None:
    """A resumed session skips the check of the client's certificate, which may have expired."""
    context = client_context(site.root.pem, site.client.identity_pem)
    with site.connect_by(context) as first:
        ask(first)
        session = first.session
    assert session is not None
    with site.connect_by(context, session=session) as second:
        assert not second.session_reused
        assert ask(second)[0] == 200


def test_older_tls_is_refused(site: Site) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError):
        site.connect_by(context)


def test_a_revoked_client_is_cut_off_at_once(site: Site) -> None:
    serial = site.client.certificate.serial_number
    with site.connect(site.client) as victim, site.connect(site.root.leaf("other")) as other:
        ask(victim)
        assert ask(other, f"GET /?cut={serial} HTTP/1.1\r\nHost: x\r\n\r\n".encode())[1]["cut"] >= 1
        with contextlib.suppress(
            ConnectionError, ssl.SSLError
        ):  # no deadline of the front's would end it in time
            assert victim.recv(10) == b""
        assert ask(other)[0] == 200


def test_requests_sent_ahead_are_all_answered(open_site: Site) -> None:
    with open_site.connect(None) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 3)
        received = b""
        while received.count(b"HTTP/1.1 200") < 3:
            chunk = sock.recv(8192)
            assert chunk
            received += chunk


def test_a_head_in_pieces_is_served(open_site: Site) -> None:
    with open_site.connect(None) as sock:
        for piece in (b"GET / HT", b"TP/1.1\r\nHo", b"st: x\r\n", b"\r\n"):
            sock.sendall(piece)
            time.sleep(0.05)
        assert answer(sock)[0] == 200


@pytest.mark.parametrize(
    ("request_bytes", "status", "kind"),
    [
        pytest.param(post(b'{"a": 1}'), 200, None, id="good"),
        pytest.param(post(b'{"a": "1"}'), 400, "bad-input", id="wrong type"),
        pytest.param(post(b"{"), 400, "bad-input", id="no JSON"),
        pytest.param(post(b"[" * 900), 400, "bad-input", id="deep"),
        pytest.param(post(b'{"a": 1}', b"text/plain"), 415, "unsupported-media-type", id="content type"),
        pytest.param(post(b'{"a": %s1}' % (b" " * 1000)), 413, "", id="too large"),
        pytest.param(
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
            b'8\r\n{"a": 1}\r\n0\r\n\r\n',
            200,
            None,
            id="chunked",
        ),
        pytest.param(b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n", 404, "not-found", id="no route"),
        pytest.param(b"DELETE / HTTP/1.1\r\nHost: x\r\n\r\n", 405, "method-not-allowed", id="no method"),
        pytest.param(b"GET /?fail=1 HTTP/1.1\r\nHost: x\r\n\r\n", 500, "internal-fault", id="our fault"),
        pytest.param(b"GET /?busy=1 HTTP/1.1\r\nHost: x\r\n\r\n", 503, "busy", id="busy"),
        pytest.param(b"GET /%s HTTP/1.1\r\nHost: x\r\n\r\n" % (b"a" * 9000), 414, "", id="long line"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\n%s\r\n" % (b"A: b\r\n" * 60), 431, "", id="many headers"),
        pytest.param(
            b"GET / HTTP/1.1\r\nHost: x\r\nA: %s\r\n\r\n" % (b"b" * 9000), 431, "", id="long header"
        ),
        pytest.param(b"GET / HTTP/1.1\r\nA: %s" % (b"b" * 40000), 431, "", id="endless head"),
        pytest.param(b"secret!\r\n\r\n", 400, "bad-request", id="no HTTP"),
    ],
)
def test_each_refusal_is_a_problem_document(
    open_site: Site, request_bytes: bytes, status: int, kind: str | None
) -> None:
    with open_site.connect(None) as sock:
        got, body = ask(sock, request_bytes)
        assert got == status
        if kind is not None:
            assert body["status"] == status
            assert body["type"].startswith("urn:ostiary:problem:" + kind)
            assert "secret" not in json.dumps(body)


@pytest.mark.parametrize("by", ["tls", "plain"])
def test_a_refusal_reaches_a_client_that_is_still_sending(open_site: Site, by: str) -> None:
    """Closed with the body unread, the kernel would reset the connection over the answer."""
    running = open_site.running if by == "tls" else Running(listen_tcp("127.0.0.1", 0), None)
    request = post(b"x" * (4 << 20))
    with open_site.connect(None) if by == "tls" else socket.create_connection(running.address) as sock:
        for at in range(0, len(request), 64 << 10):
            sock.sendall(request[at : at + (64 << 10)])
            time.sleep(0.002)
        assert answer(sock)[0] == 413
        sock.settimeout(PATIENCE_S)
        assert sock.recv(1) == b""
    if by == "plain":
        running.stop()


def test_a_client_that_never_stops_sending_is_closed_on() -> None:
    running = Running(listen_tcp("127.0.0.1", 0), None, leave_s=RUNS_OUT_S)
    with socket.create_connection(running.address, timeout=PATIENCE_S) as sock:
        sock.sendall(
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: 1000000000\r\n\r\n"
        )

        def is_closed_on() -> bool:
            try:
                sock.sendall(b"x" * 1000)
            except ConnectionError:
                return True
            return False

        with at_least(RUNS_OUT_S):
            until(is_closed_on)
    running.stop()


def test_a_unix_front_knows_its_peer(tmp_path: Path) -> None:
    running = Running(listen_unix(tmp_path / "s", mode=0o600), None)
    assert (tmp_path / "s").stat().st_mode & 0o777 == 0o600
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(tmp_path / "s"))
        body = ask(sock)[1]
    assert (body["uid"], body["pid"]) == (os.getuid(), os.getpid())
    running.stop()


def test_a_context_is_rotated_without_a_restart(tmp_path: Path) -> None:
    root = Root()
    first, second = root.leaf(NAME), root.leaf(NAME)
    marker = tmp_path / "rotated"
    contexts = [
        front_tls(leaf.identity_pem, root.pem, client_certificates="optional") for leaf in (first, second)
    ]
    running = Running(listen_tcp("127.0.0.1", 0), lambda: contexts[marker.exists()])

    def served_by() -> bytes | None:
        raw = socket.create_connection(running.address, timeout=PATIENCE_S)
        with client_context(root.pem, None).wrap_socket(raw, server_hostname=NAME) as sock:
            ask(sock)
            return sock.getpeercert(True)

    assert served_by() == first.der
    marker.touch()
    assert served_by() == second.der
    running.stop()


def test_workers_die_with_a_killed_arbiter_and_the_port_is_free_at_once() -> None:
    sock = listen_tcp("127.0.0.1", 0)
    running = Running(sock, None)
    with socket.create_connection(running.address, timeout=PATIENCE_S) as client:
        worker = ask(client)[1]["worker"]
    os.kill(running.pid, signal.SIGKILL)
    listen_tcp(*running.address).close()
    os.waitpid(running.pid, 0)
    until(lambda: not is_alive(worker))


def test_a_killed_worker_is_replaced() -> None:
    running = Running(listen_tcp("127.0.0.1", 0), None)
    with socket.create_connection(running.address, timeout=PATIENCE_S) as client:
        worker = ask(client)[1]["worker"]
    os.kill(worker, signal.SIGKILL)
    with socket.create_connection(running.address, timeout=PATIENCE_S) as client:
        after = ask(client)[1]
        assert after["worker"] != worker
        assert after["slot"] == 0
    running.stop()


def test_who_asks_for_what_is_not_there_is_told_before_a_body_is_awaited(open_site: Site) -> None:
    with open_site.connect(None) as sock:
        head = b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n"
        assert ask(sock, head)[0] == 404
