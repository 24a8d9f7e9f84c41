"""Every path of the front, and what it takes to be answered there."""

from __future__ import annotations

import pytest

from tests.support.ca_front import MANAGER, FrontForTests

SERIAL = "0badc0de"
ASKERS_ONLY = [
    ("POST", "/.well-known/est/simplereenroll"),
    ("POST", "/v1/agents"),
    ("POST", f"/v1/certificates/{SERIAL}/prove"),
    ("POST", f"/v1/certificates/{SERIAL}/confirm"),
    ("POST", f"/v1/certificates/{SERIAL}/revoke"),
    ("GET", "/v1/whoami"),
    ("GET", "/v1/revocations"),
    ("GET", "/v1/ledger/checkpoint"),
    ("GET", "/v1/ledger/entries/000"),
    ("GET", "/metrics"),
]


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> FrontForTests:
    return FrontForTests(tmp_path_factory.mktemp("front"))


@pytest.mark.parametrize(
    "path", ["/.well-known/est/cacerts", "/.well-known/est/csrattrs", "/healthz", "/readyz"]
)
def test_what_anybody_may_have(front: FrontForTests, path: str) -> None:
    assert front.ask("GET", path).status_code == 200


@pytest.mark.parametrize(("method", "path"), ASKERS_ONLY)
def test_everything_else_wants_a_certificate(front: FrontForTests, method: str, path: str) -> None:
    result = front.ask(method, path)
    assert (result.status_code, result.json["field"]) == (401, "certificate")


def test_enrolling_wants_a_token(front: FrontForTests) -> None:
    result = front.ask("POST", "/.well-known/est/simpleenroll")
    assert (result.status_code, result.json["field"]) == (401, "authorization")


def test_there_is_no_other_path(front: FrontForTests) -> None:
    assert front.ask("GET", "/v1/tokens", holder=front.holder()).status_code == 404


def test_checkpoints_are_any_agents_and_entries_are_auditors(front: FrontForTests) -> None:
    manager = front.holder("certificate-manager", MANAGER)
    controller = front.holder()
    path = "/v1/ledger/entries/000"
    assert front.ask("GET", path, holder=manager).json["rule"] == "capability-ledger:read"
    assert front.ask("GET", path, holder=controller).status_code != 403


def test_metrics_are_any_agents(front: FrontForTests) -> None:
    result = front.ask("GET", "/metrics", holder=front.holder())
    assert result.status_code == 200
    assert "ostiary_ca_front" in result.text
