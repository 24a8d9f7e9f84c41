"""Many requests in few calls: each has its result, in order; a call has no more than the service takes."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec
import pytest

from credsvc.client import signing
from credsvc.client.signing import Signed, SigningClient
from credsvc.front import requests
from ostiary.edge.http_client import tcp_connector
from ostiary.edge.problems import PROBLEM_TYPE, problem_of
from ostiary.errors import BadInput, Busy, Forbidden, InternalFault, OstiaryError
from tests.support.waiting import PATIENCE_S


def released(request: dict[str, Any]) -> dict[str, Any]:
    return {"release": {"query.sig": request["n"]}, "formula": "f", "entry": 7, "rule": "r"}


def failed(error: OstiaryError) -> dict[str, Any]:
    return {"problem": problem_of(error, audience="network", instance=""), "retry_after_s": 9}


class Service(ThreadingHTTPServer):
    """Answers batches by `answer`, which may raise; keeps how many requests came in which call."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.calls: list[tuple[str, int]] = []
        self.bodies: list[int] = []

    def answer(self, asked: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [released(request) for request in asked]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Service

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers["Content-Length"]))
        asked = msgspec.json.decode(raw, type=dict[str, list[dict[str, Any]]])["requests"]
        self.server.calls.append((self.path, len(asked)))
        self.server.bodies.append(len(raw))
        status, content_type = 200, "application/json"
        try:
            body: Any = {"results": self.server.answer(asked)}
        except OstiaryError as exc:
            body = problem_of(exc, audience="network", instance="")
            status, content_type = body.status, PROBLEM_TYPE
        encoded = msgspec.json.encode(body)
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(encoded)))
        self.end_headers()
        self.wfile.write(encoded)

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
    # Without TLS: what is tried here is what goes into which call.
    made._connect = tcp_connector(("127.0.0.1", service.server_address[1]), timeout_s=PATIENCE_S)
    yield made
    made.close()


def asked(count: int, **more: str) -> list[dict[str, Any]]:
    return [{"n": f"{number}", **more} for number in range(count)]


def signatures(results: Sequence[Signed | OstiaryError]) -> list[str]:
    return [result.release["query.sig"] for result in results if isinstance(result, Signed)]


def test_results_are_in_the_order_of_the_requests(service: Service, client: SigningClient) -> None:
    results = client.sign_many("a b", "sign", asked(3))
    assert results[0] == Signed(release={"query.sig": "0"}, formula="f", entry=7, rule="r")
    assert signatures(results) == ["0", "1", "2"]
    assert service.calls == [("/v1/credentials/a%20b/operations/sign/batch", 3)]
    assert client.sign_many("a", "sign", []) == []


def test_more_than_a_call_takes_go_in_several(service: Service, client: SigningClient) -> None:
    assert signatures(client.sign_many("a", "sign", asked(600))) == [f"{number}" for number in range(600)]
    assert [count for _, count in service.calls] == [requests.MAX_BATCH, requests.MAX_BATCH, 88]
    service.calls.clear()
    assert len(signatures(client.sign_many("a", "sign", asked(20, text="x" * 100_000)))) == 20
    assert [count for _, count in service.calls] == [10, 10]
    assert max(service.bodies) <= requests.MAX_BATCH_BYTES


def test_what_fails_is_an_error_in_its_place(
    service: Service, client: SigningClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = [Forbidden("no", rule="default-deny"), BadInput("bad", field="holes.t"), Busy("full")]
    answers = [failed(errors[0]), released({"n": "1"}), failed(errors[1]), failed(errors[2]), {}]
    monkeypatch.setattr(service, "answer", lambda _asked: answers)
    denied, signed, bad, busy, malformed = client.sign_many("a", "sign", asked(5))
    assert isinstance(denied, Forbidden)
    assert denied.rule == "default-deny"
    assert signatures([signed]) == ["1"]
    assert isinstance(bad, BadInput)
    assert bad.field == "holes.t"
    assert isinstance(busy, Busy)
    assert busy.retry_after_s == 9
    assert isinstance(malformed, InternalFault)


def test_a_call_that_fails_is_the_error_of_its_requests_and_of_no_others(
    service: Service, client: SigningClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(asked: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if asked[0]["n"] == "0":
            raise Busy("away")
        return [released(request) for request in asked]

    monkeypatch.setattr(service, "answer", answer)
    results = client.sign_many("a", "sign", asked(requests.MAX_BATCH + 2))
    assert [type(result) for result in results] == [Busy] * requests.MAX_BATCH + [Signed] * 2


def test_an_answer_that_would_be_too_large_is_asked_for_in_halves(
    service: Service, client: SigningClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(asked: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if len(asked) > 2 or asked[-1]["n"] == "6":
            raise BadInput("ask for fewer at once", field="requests")
        return [released(request) for request in asked]

    monkeypatch.setattr(service, "answer", answer)
    results = client.sign_many("a", "sign", asked(7))
    assert signatures(results) == ["0", "1", "2", "3", "4", "5"]
    # One alone that is too large stays so.
    assert isinstance(results[6], BadInput)


def test_results_of_another_number_belong_to_nobody(
    service: Service, client: SigningClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "answer", lambda asked: [released(asked[0])])
    assert [type(result) for result in client.sign_many("a", "sign", asked(2))] == [InternalFault] * 2


def test_what_a_call_takes_is_the_services(service: Service) -> None:
    assert signing._MAX_BATCH == requests.MAX_BATCH
    assert signing._MAX_BATCH_BYTES + len('{"requests":[]}') <= requests.MAX_BATCH_BYTES
