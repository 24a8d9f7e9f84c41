"""Problem documents and strict JSON, without a network."""

from __future__ import annotations

import enum
import json
import logging
from typing import Any

import falcon
import falcon.asgi
import falcon.testing
import msgspec
import pytest

from ostiary.edge.problems import Audience, problem_of, raw_problem
from ostiary.edge.strict_json import decode_json
from ostiary.errors import (
    BadInput,
    Busy,
    Conflict,
    Forbidden,
    InternalFault,
    Misconfigured,
    NotFound,
    OstiaryError,
    Unauthenticated,
)
from ostiary.front.http import check_pace, create_app, failure_of, read_body, read_json
from tests.support.asgi import peer_from, seen_by

SECRET = "hunter2-marked"


class Color(enum.Enum):
    RED = "red"


class Port(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    number: int


class Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    ports: list[Port] = []
    color: Color = Color.RED


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (BadInput("no", field="name"), 400, "bad-input"),
        (Unauthenticated("no"), 401, "unauthenticated"),
        (Forbidden("no", rule="r1"), 403, "forbidden"),
        (NotFound("no"), 404, "not-found"),
        (Conflict("no"), 409, "conflict"),
        (Busy("no"), 503, "busy"),
        (Misconfigured("no"), 500, "misconfigured"),
        (InternalFault("no"), 500, "internal-fault"),
    ],
)
def test_each_kind_has_its_status_and_type(error: OstiaryError, status: int, kind: str) -> None:
    problem = problem_of(error, audience="operator", instance="urn:x")
    assert (problem.status, problem.type) == (status, f"urn:ostiary:problem:{kind}")
    assert problem.field == error.field
    assert problem.rule == (error.rule if isinstance(error, Forbidden) else None)


@pytest.mark.parametrize(
    ("error", "audience", "shown"),
    [
        (InternalFault(SECRET), "network", False),
        (InternalFault(SECRET), "operator", False),
        (Misconfigured(SECRET), "network", False),
        (Misconfigured(SECRET), "operator", True),
        (BadInput(SECRET), "network", True),
    ],
)
def test_what_is_internal_stays_inside(error: OstiaryError, audience: Audience, shown: bool) -> None:
    problem = problem_of(error, audience=audience, instance="urn:x")
    assert (SECRET in problem.detail) is shown


@pytest.mark.parametrize(
    ("content", "field", "message"),
    [
        (b'{"name": 1}', "name", "expected `str`, got `int`"),
        (b"{}", "name", "object missing required field `name`"),
        (b'{"name": "x", "ports": [{"number": "y"}]}', "ports[0].number", "expected `int`, got `str`"),
        (
            b'{"name": "x", "ports": [{"nummer": 1}]}',
            "ports[0].nummer",
            "object contains unknown field `nummer`",
        ),
        (b'{"name": "x", "extra": 1}', "extra", "object contains unknown field `extra`"),
        (b'{"name": "x", "color": "%s"}' % SECRET.encode(), "color", "invalid enum value"),
        (b"[]", None, "expected `object`, got `array`"),
        (b"{", None, "the body is not JSON"),
        (b'{"name": "x"} x', None, "the body is not JSON"),
        (b"[" * 100_000, None, ""),
        (b'{"name": "\xff"}', None, ""),
    ],
)
def test_strict_json_names_the_member(content: bytes, field: str | None, message: str) -> None:
    with pytest.raises(BadInput) as caught:
        decode_json(content, Body)
    assert caught.value.field == field
    assert caught.value.message.startswith(message)
    assert SECRET not in caught.value.message


def test_a_raw_problem_is_a_whole_response() -> None:
    head, _, body = raw_problem(431).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 431 Request Header Fields Too Large\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    assert json.loads(body)["status"] == 431


class Small:
    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        resp.data = await read_body(req, content_type="text/plain", limit_bytes=8)


class Resource:
    error: Exception = Busy("full", retry_after_s=9)

    async def on_get(self, _req: falcon.asgi.Request, _resp: falcon.asgi.Response) -> None:
        raise self.error

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        resp.media = {"name": (await read_json(req, Body)).name}

    async def on_put(self, _req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        resp.set_header("Cache-Control", "public, max-age=60")


@pytest.fixture
def resource() -> Resource:
    return Resource()


@pytest.fixture
def client(resource: Resource) -> falcon.testing.TestClient:
    app: Any = create_app(audience="network")
    app.add_route("/", resource)
    return falcon.testing.TestClient(app)


def test_busy_says_when_to_come_again(client: falcon.testing.TestClient) -> None:
    result = client.simulate_get("/")
    assert (result.status_code, result.headers["retry-after"]) == (503, "9")
    assert result.headers["content-type"] == "application/problem+json"


def test_unauthenticated_asks_for_credentials(client: falcon.testing.TestClient, resource: Resource) -> None:
    resource.error = Unauthenticated("who are you")
    assert client.simulate_get("/").headers["www-authenticate"].startswith("Basic realm=")


def test_a_certificate_that_did_not_verify_is_refused_before_anything_else() -> None:
    counted: list[str] = []
    app: Any = create_app(audience="network", count_unverified=counted.append)
    app.add_route("/", Resource())
    peer = peer_from("192.0.2.7", certificate=b"", problem="it has expired")
    for path in ("/", "/nowhere"):
        result = falcon.testing.TestClient(seen_by(peer, app)).simulate_get(path)
        assert (result.status_code, result.json["field"]) == (401, "certificate")
        assert result.json["detail"] == "client certificate: it has expired"
    assert counted == ["192.0.2.7"] * 2


def test_an_unexpected_exception_is_told_to_nobody_but_the_log(
    client: falcon.testing.TestClient, resource: Resource, caplog: pytest.LogCaptureFixture
) -> None:
    resource.error = RuntimeError(SECRET)
    with caplog.at_level(logging.ERROR):
        result = client.simulate_get("/")
    assert result.status_code == 500
    assert SECRET not in result.text
    assert SECRET not in caplog.text
    (record,) = caplog.records
    assert vars(record)["instance"] == result.json["instance"]
    assert vars(record)["error"] == "RuntimeError"


def test_nothing_is_cached_unless_the_resource_says_so(client: falcon.testing.TestClient) -> None:
    assert client.simulate_post("/", json={"name": "x"}).headers["cache-control"] == "no-store"
    assert client.simulate_put("/").headers["cache-control"] == "public, max-age=60"
    assert client.simulate_put("/").headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("path", "method", "status"), [("/none", "GET", 404), ("/", "DELETE", 405), ("/", "POST", 415)]
)
def test_errors_of_the_framework_are_problem_documents(
    client: falcon.testing.TestClient, path: str, method: str, status: int
) -> None:
    result = client.simulate_request(method, path, body="x")
    assert result.status_code == status
    assert result.json["status"] == status
    assert result.headers["content-type"] == "application/problem+json"


def test_who_must_wait_is_told_how_long() -> None:
    check_pace(0.0)
    with pytest.raises(falcon.HTTPTooManyRequests) as refused:
        check_pace(1.2)
    assert refused.value.headers == {"Retry-After": "2"}


def post(body: bytes, **headers: str) -> falcon.testing.Result:
    """Post to `Small`; TestClient announces no length where Transfer-Encoding is given."""
    app: Any = create_app(audience="network")
    app.add_route("/", Small())
    return falcon.testing.TestClient(app).simulate_post(
        "/", body=body, headers={"Content-Type": "text/plain; charset=utf-8"} | headers
    )


def test_a_body_may_have_as_many_bytes_as_the_resource_says() -> None:
    assert post(b"8 bytes!").content == b"8 bytes!"
    refused = post(b"9 bytes!!")
    assert (refused.status_code, refused.json["detail"]) == (413, "the body may have at most 8 bytes")


@pytest.mark.parametrize(
    ("error", "status", "retry_after_s"),
    [
        (Forbidden("no", rule="default-deny"), 403, None),
        (BadInput("bad", field="holes.t"), 400, None),
        (Busy("full", retry_after_s=7), 503, 7),
        (falcon.HTTPTooManyRequests(headers={"Retry-After": "3"}), 429, 3),
        (InternalFault(SECRET), 500, None),
        (RuntimeError(SECRET), 500, None),
    ],
)
def test_one_of_several_failures_says_what_it_would_alone(
    error: Exception, status: int, retry_after_s: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        failure = failure_of(error, audience="network")
    assert (failure.problem.status, failure.retry_after_s) == (status, retry_after_s)
    assert SECRET not in failure.problem.detail
    # A fault of ours is found in the log by its instance, without an unexpected one's message.
    assert [vars(record)["instance"] for record in caplog.records] == (
        [failure.problem.instance] if status == 500 else []
    )
    assert SECRET not in caplog.text
