"""A credentials service in real processes: bad requests, strangers and agents without a right are refused
with a problem that says why, and are no burden to others.
"""

from __future__ import annotations

import json

import pytest

from credsvc.client import SigningClient
from ostiary.edge.tls import client_context
from ostiary.errors import BadInput, Forbidden, Unauthenticated
from tests.support.credential_ledger import auditor, http_of
from tests.support.credential_service import SERVICE_NODE, Service
from tests.support.identities import Authority

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def service(shared_credentials: Service) -> Service:
    return shared_credentials


@pytest.fixture
def client(service: Service) -> SigningClient:
    return service.client(service.authority.agent("component", capabilities=["credential:use"]))


SIGN = "/v1/credentials/billing-aws/operations/sign"
BAD_BODIES: dict[str, tuple[bytes, str | None]] = {
    "broken": (b'{"request": ', None),
    "not-an-object": (b"[]", None),
    "unknown-member": (b'{"request": {}, "sudo": true}', "sudo"),
    "missing-member": (b"{}", "request"),
    "wrong-type": (b'{"request": "GET"}', "request"),
    "not-utf-8": (b'{"request": {"method": "\xff"}}', None),
    "deep": (b'{"request": {"a": ' + b"[" * 40 + b"]" * 40 + b"}}", "request"),
    "very-deep": (b'{"request": {"a": ' + b"[" * 20000 + b"]" * 20000 + b"}}", None),
    "huge-number": (b'{"request": {"n": 1' + b"0" * 30 + b"}}", None),
}


@pytest.mark.parametrize("name", BAD_BODIES)
def test_a_bad_body_is_a_problem_that_names_it(client: SigningClient, name: str) -> None:
    body, field = BAD_BODIES[name]
    before = client.use("grid", "sign", {}).entry
    with pytest.raises(BadInput) as refused:
        http_of(client).request("POST", SIGN, body=body, content_type="application/json")
    assert field is None or refused.value.field == field
    assert refused.value.message
    # Nothing was recorded in between.
    assert client.use("grid", "sign", {}).entry == before + 1


@pytest.mark.parametrize(
    ("method", "path", "content_type", "size", "status"),
    [
        ("POST", SIGN, "text/plain", 2, 415),
        ("POST", SIGN, "application/json", 300_000, 413),
        ("GET", SIGN, None, 0, 405),
        ("GET", "/v1/nothing", None, 0, 404),
        ("POST", "/v1/credentials/BAD%20NAME/operations/sign", "application/json", 0, 400),
    ],
)
def test_other_bad_requests(
    client: SigningClient, method: str, path: str, content_type: str | None, size: int, status: int
) -> None:
    body = (b'{"request": {}}' + b" " * size) if content_type else None
    connection = http_of(client)
    response = connection._exchange(
        method, path, body, {"Content-Type": content_type} if content_type else {}
    )
    assert response.status == status
    assert response.headers["content-type"] == "application/problem+json"
    assert json.loads(response.body)["status"] == status


def test_a_module_that_refuses_the_request(client: SigningClient) -> None:
    with pytest.raises(BadInput):
        client.use("billing-aws", "sign", {"nothing": "of use"})


def test_an_operation_that_is_not_there(client: SigningClient) -> None:
    with pytest.raises(Forbidden) as refused:
        client.use("billing-aws", "launch", {})
    assert refused.value.rule == "operation-unknown"


def test_a_certificate_of_a_foreign_authority_is_refused_with_the_reason(service: Service) -> None:
    """It names an agent of this application, with every right."""
    foreign = Authority().agent("component", capabilities=["credential:use"])
    before = service.log.count("not issued under")
    with pytest.raises(Unauthenticated, match="client certificate: it was not issued under") as refused:
        service.client(foreign).use("grid", "sign", {})
    assert refused.value.field == "certificate"
    assert service.log.count("not issued under") == before + 1


def test_without_a_certificate_there_is_nohttp_of(service: Service) -> None:
    context = client_context(service.authority.pem, None)
    client = SigningClient(f"https://{SERVICE_NODE}", context, address=("127.0.0.1", service.port))
    with pytest.raises(Unauthenticated, match=r"(?i)certificate.required"):
        http_of(client).request("GET", "/healthz")


def test_a_certificate_without_our_names_is_nobody(service: Service) -> None:
    nameless = service.authority.agent("component", capabilities=["credential:use"], common_name="admin")
    with pytest.raises(Unauthenticated):
        service.client(nameless).use("grid", "sign", {})


def test_entries_are_for_those_who_may_read_the_ledger(service: Service, client: SigningClient) -> None:
    for path in ("/v1/ledger/tile/entries/000.p/1", "/v1/ledger/entries/000.p/1", "/metrics"):
        with pytest.raises(Forbidden) as refused:
            http_of(client).request("GET", path)
        assert refused.value.rule == "read-needs-capability"
    assert b'stage="sandbox"' in auditor(service).request("GET", "/metrics").body
