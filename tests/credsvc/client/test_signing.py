"""The client of the credentials service: one connection for each call that goes on, however many threads come
and go.
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import msgspec
import pytest

from credsvc.client.signing import Signed, SigningClient
from ostiary.edge.http_client import tcp_connector
from tests.support.waiting import PATIENCE_S

SIGNED = Signed(
    release={"header.authorization": "AWS4 ...", "query.sig": "3f"}, formula="f", entry=7, rule="r"
)


class Service(ThreadingHTTPServer):
    """Signs everything; `together` holds each call until that many go on."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.accepted = 0
        self.together = threading.Barrier(1)

    def get_request(self) -> tuple[object, object]:  # type: ignore[override] # as socketserver has it
        self.accepted += 1
        return super().get_request()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Service

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.together.wait(PATIENCE_S)
        body = msgspec.json.encode(SIGNED)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture
def service() -> Iterator[Service]:
    with Service() as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.02,))
        thread.start()
        yield made
        made.shutdown()
        thread.join()


@pytest.fixture
def client(service: Service) -> Iterator[SigningClient]:
    made = SigningClient("https://credentials.example", ssl.create_default_context)
    # Without TLS: what is tried here is who has which connection.
    made._connect = tcp_connector(("127.0.0.1", service.server_address[1]), timeout_s=PATIENCE_S)
    yield made
    made.close()


def _call_in_threads(client: SigningClient, number: int) -> None:
    answers: list[Signed] = []
    threads = [
        threading.Thread(target=lambda: answers.append(client.use("billing-aws", "sign", {})))
        for _ in range(number)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [SIGNED] * number


def test_threads_that_come_and_go_leave_no_connections(service: Service, client: SigningClient) -> None:
    for _ in range(5):
        _call_in_threads(client, 1)
    assert service.accepted == 1


def test_calls_at_once_have_connections_of_their_own(service: Service, client: SigningClient) -> None:
    service.together = threading.Barrier(3)
    for _ in range(2):
        _call_in_threads(client, 3)
    assert service.accepted == 3


def test_a_closed_client_connects_again(service: Service, client: SigningClient) -> None:
    client.use("billing-aws", "sign", {})
    client.close()
    assert client.use("billing-aws", "sign", {}).headers() == {"authorization": "AWS4 ..."}
    assert service.accepted == 2
