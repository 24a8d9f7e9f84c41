"""Our HTTP client against a real front."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ostiary.edge.http_client import (
    HTTPClient,
    Response,
    error_of,
    tcp_connector,
    tls_connector,
    unix_connector,
)
from ostiary.edge.tls import client_context
from ostiary.errors import (
    BadInput,
    Busy,
    Conflict,
    Forbidden,
    InternalFault,
    NotFound,
    OstiaryError,
    Unauthenticated,
)
from ostiary.front.serve import listen_unix
from tests.support.fronts import NAME, Running, Site
from tests.support.pki import Leaf, Root
from tests.support.waiting import PATIENCE_S, RUNS_OUT_S

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    site = Site("required")
    yield site
    site.running.stop()


def client_of(
    site: Site, *, root: Root | None = None, leaf: Leaf | None = None, name: str = NAME
) -> HTTPClient:
    context = client_context((root or site.root).pem, leaf.identity_pem if leaf else None)
    connect = tls_connector(
        site.running.address, server_name=name, context=lambda: context, timeout_s=PATIENCE_S
    )
    return HTTPClient(connect, host=name)


def test_requests_share_a_connection(site: Site) -> None:
    with client_of(site, leaf=site.client) as client:
        assert client.peer_certificate() is None
        for _ in range(3):
            body = client.call("GET", "/", type_=dict[str, Any])
            assert body["certificate"] == site.client.der.hex()
        assert client.call("POST", "/", {"a": 1}, type_=dict[str, int]) == {"a": 1}
        assert client.peer_certificate() is not None


def test_a_problem_document_becomes_the_error_it_was(site: Site) -> None:
    with client_of(site, leaf=site.client) as client:
        with pytest.raises(BadInput) as bad:
            client.call("POST", "/", {"a": "x"}, type_=dict[str, int])
        assert bad.value.message == "expected `int`, got `str`"
        with pytest.raises(NotFound):
            client.request("GET", "/nowhere")
        with pytest.raises(Busy) as busy:
            client.request("GET", "/?busy=1")
        assert busy.value.retry_after_s == 7
        with pytest.raises(InternalFault, match="urn:ostiary:request:"):
            client.request("GET", "/?fail=1")
        with pytest.raises(InternalFault, match="malformed response"):
            client.call("GET", "/", type_=list[int])


def test_a_server_that_does_not_prove_its_name_gets_nothing(site: Site) -> None:
    for client in (
        client_of(site, leaf=site.client, name="other.example"),
        client_of(site, root=Root(), leaf=site.client),
    ):
        with pytest.raises(Forbidden) as caught, client:
            client.request("GET", "/")
        assert caught.value.rule == "server-certificate"


@pytest.mark.parametrize("leaf", [None, Root().leaf("agent.shop.example")], ids=["none", "foreign"])
def test_a_client_that_is_not_accepted_learns_it(site: Site, leaf: Leaf | None) -> None:
    # The verdict comes while the request is written, and the end of the connection behind it: often, before
    # all of it is out.
    for _ in range(30):
        with client_of(site, leaf=leaf) as client, pytest.raises(Unauthenticated):
            client.request("POST", "/", body=b"{}", content_type="application/json")


def test_a_call_that_waits_can_be_ended_by_another_thread(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as silent:
        silent.bind(str(tmp_path / "s"))
        silent.listen()
        client = HTTPClient(unix_connector(tmp_path / "s", timeout_s=PATIENCE_S), host="local")
        told: list[OstiaryError] = []

        def ask() -> None:
            with pytest.raises(Busy) as ended:
                client.request("GET", "/")
            told.append(ended.value)

        thread = threading.Thread(target=ask)
        thread.start()
        server, _ = silent.accept()
        with server:
            assert server.recv(1) == b"G"  # it has sent its request, and waits
            client.abort()
            thread.join(PATIENCE_S)
            assert told
        # Nor does it connect again.
        with pytest.raises(Busy, match="was stopped"):
            client.request("GET", "/")


def test_nobody_there_is_busy(tmp_path: Path) -> None:
    with pytest.raises(Busy):
        HTTPClient(unix_connector(tmp_path / "s", timeout_s=PATIENCE_S), host="local").request("GET", "/")


def test_a_server_that_restarted_is_found_again(tmp_path: Path) -> None:
    client = HTTPClient(unix_connector(tmp_path / "s", timeout_s=PATIENCE_S), host="local")
    for _ in range(2):
        running = Running(listen_unix(tmp_path / "s", mode=0o600), None)
        assert client.call("POST", "/", {"a": 1}, type_=dict[str, int]) == {"a": 1}
        os.kill(running.pid, signal.SIGTERM)
        os.waitpid(running.pid, 0)
    client.close()


def served_once(replies: list[bytes]) -> tuple[tuple[str, int], list[bytes], threading.Thread]:
    """A server that gives one reply per connection (b"" closes) and keeps what it was sent."""
    listener = socket.create_server(("127.0.0.1", 0))
    seen: list[bytes] = []

    def run() -> None:
        for reply in replies:
            sock, _ = listener.accept()
            with sock:
                sock.settimeout(PATIENCE_S)
                seen.append(sock.recv(10_000))
                sock.sendall(reply)
        listener.close()

    thread = threading.Thread(target=run)
    thread.start()
    return listener.getsockname(), seen, thread


def test_a_post_whose_answer_is_lost_is_not_sent_again() -> None:
    address, seen, thread = served_once([b""])
    with HTTPClient(tcp_connector(address, timeout_s=PATIENCE_S), host="x") as client, pytest.raises(Busy):
        client.request("POST", "/", body=b"pay")
    thread.join()
    assert len(seen) == 1


def test_an_answer_that_was_cut_off_is_not_one() -> None:
    address, _, thread = served_once([b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + bytes(99)])
    with HTTPClient(tcp_connector(address, timeout_s=PATIENCE_S), host="x") as client, pytest.raises(Busy):
        client.request("POST", "/", body=b"pay")
    thread.join()


def test_a_late_answer_is_busy_and_one_too_large_is_refused() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    with (
        HTTPClient(tcp_connector(listener.getsockname(), timeout_s=RUNS_OUT_S), host="x") as client,
        pytest.raises(Busy, match="in time"),
    ):
        client.request("GET", "/")
    listener.close()
    address, _, thread = served_once([b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + bytes(100)])
    with (
        HTTPClient(tcp_connector(address, timeout_s=PATIENCE_S), host="x", limit_bytes=99) as client,
        pytest.raises(InternalFault, match="longer than 99 bytes"),
    ):
        client.request("GET", "/")
    thread.join()


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, BadInput),
        (401, Unauthenticated),
        (403, Forbidden),
        (404, NotFound),
        (409, Conflict),
        (413, BadInput),
        (429, Busy),
        (500, InternalFault),
        (502, InternalFault),
        (503, Busy),
    ],
)
def test_a_status_without_a_document_has_its_error(status: int, kind: type[OstiaryError]) -> None:
    headers = {"content-type": "text/html", "retry-after": "soon"}
    assert type(error_of(Response(status=status, headers=headers, body=b"<html>"))) is kind
