"""The applications' real responses are what docs/openapi.yaml promises: status, content type, JSON schema."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any, cast

import falcon.testing
import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from jsonschema import ValidationError

from ca.front import est_api
from certmgr import api as manager_api
from certmgr.app import Manager, Serving
from certmgr.processes import LinuxProcesses
from credsvc.front.app import build_app
from credsvc.front.catalog import Catalog, Subject
from credsvc.front.doorkeeper import Doorkeeper, KnownPeer, Refuser
from credsvc.front.parts import FrontParts
from credsvc.front.stages import STAGES
from credsvc.policy.judge import Judge
from ostiary.address import Address
from ostiary.edge.metrics import Metrics
from ostiary.front.offload import Offload
from ostiary.front.refusals import RefusalCounter
from ostiary.names import parse_application
from ostiary.peer import read_peer
from tests.support.asgi import LocalPeer, peer_from, seen_by
from tests.support.ca_front import CHILD, MANAGER, FrontForTests, basic, csr_of, new_key
from tests.support.credentials_front import REQUEST, FixedClock, MemoryRecorder, subject, world
from tests.support.identities import Authority
from tests.support.manager_records import CONTROLLER, MANAGER_AGENT, FakeNode, authority, peer
from tests.support.openapi import check_value, document, operation

CERTIFICATE = "/v1/certificates/{serial}"
SIGN = "/v1/credentials/{name}/operations/{operation}"


def check_answer(result: falcon.testing.Result, service: str, method: str, path: str) -> Any:
    """The answer's body, after it was found in the document."""
    described = operation(service, method, path).responses
    assert str(result.status_code) in described, result.text
    response = described[str(result.status_code)]
    content_type = result.headers["content-type"]
    assert content_type in response["content"], (path, content_type)
    if not content_type.endswith("json"):
        return result.content
    check_value(response["content"][content_type]["schema"], result.json)
    return result.json


def test_another_answer_is_seen() -> None:
    schema = document()["components"]["schemas"]["Activated"]
    check_value(schema, {"serial_number": "0a", "status": "active"})
    wrong: Any
    for wrong in ({"serial_number": "0A", "status": "active"}, {"serial_number": "0a"}, {"status": 1}, []):
        with pytest.raises(ValidationError):
            check_value(schema, wrong)


# --- the certificate authority ---


@pytest.fixture
def front(tmp_path: Path) -> FrontForTests:
    return FrontForTests(tmp_path)


@pytest.mark.parametrize(
    "path", ["/.well-known/est/cacerts", "/.well-known/est/csrattrs", "/healthz", "/readyz"]
)
def test_what_anybody_may_ask_the_authority(path: str, front: FrontForTests) -> None:
    assert check_answer(front.ask("GET", path), "ca", "GET", path)


def test_enrolling_and_renewing(front: FrontForTests) -> None:
    path, token = "/.well-known/est/simpleenroll", front.token()
    assert check_answer(front.enroll(token, new_key()), "ca", "POST", path)
    assert check_answer(front.enroll(token, new_key()), "ca", "POST", path)["rule"] == "token-spent"
    path, holder = "/.well-known/est/simplereenroll", front.holder()
    early = front.post_csr("simplereenroll", csr_of(new_key()), holder=holder)
    assert check_answer(early, "ca", "POST", path)["rule"] == "renewal-early"
    front.clock.later(hours=1)
    again = front.post_csr("simplereenroll", csr_of(new_key()), holder=holder)
    assert again.status_code == 200
    assert check_answer(again, "ca", "POST", path)


@pytest.mark.parametrize(
    ("status", "left_out", "body"),
    [
        (401, "Authorization", b""),
        (415, "Content-Type", b""),
        (400, "", b"x"),
        (413, "", b"x" * (est_api._BODY_BYTES + 1)),
    ],
)
def test_a_bad_enrollment(status: int, left_out: str, body: bytes, front: FrontForTests) -> None:
    headers = {"Authorization": basic(front.token()), "Content-Type": "application/pkcs10"}
    headers.pop(left_out, None)
    result = front.ask("POST", "/.well-known/est/simpleenroll", headers=headers, body=body)
    assert check_answer(result, "ca", "POST", "/.well-known/est/simpleenroll")["status"] == status


def test_a_spawn(front: FrontForTests) -> None:
    asked = {
        "subsystem": "component-harness",
        "capabilities": ["credential:use"],
        "endpoints": [],
        "spawner": front.holder().serial,
        "csr": base64.b64encode(csr_of(new_key())).decode(),
        "agent": CHILD,
    }
    check_value(document()["components"]["schemas"]["SpawnRequest"], asked)
    manager = front.holder("certificate-manager", MANAGER)
    made = check_answer(front.post("/v1/agents", asked, holder=manager), "ca", "POST", "/v1/agents")
    assert made["agent"] == CHILD
    refused = check_answer(front.post("/v1/agents", {}, holder=manager), "ca", "POST", "/v1/agents")
    assert refused["field"] == "subsystem"


def test_who_one_is_and_what_was_revoked(front: FrontForTests) -> None:
    holder, manager = front.holder(), front.holder("certificate-manager", MANAGER)
    who = front.ask("GET", "/v1/whoami", holder=holder)
    assert check_answer(who, "ca", "GET", "/v1/whoami")["status"] == "active"
    assert check_answer(front.ask("GET", "/v1/whoami"), "ca", "GET", "/v1/whoami")["status"] == 401
    path = f"/v1/certificates/{holder.serial}/revoke"
    check_answer(
        front.post(path, {"reason": "superseded"}, holder=holder), "ca", "POST", f"{CERTIFICATE}/revoke"
    )
    feed = front.ask("GET", "/v1/revocations", holder=manager)
    assert check_answer(feed, "ca", "GET", "/v1/revocations")["revoked"][0]["reason"] == "superseded"
    empty = front.ask("GET", "/v1/revocations?since=1", holder=manager)
    assert "retry-after" in empty.headers
    assert not check_answer(empty, "ca", "GET", "/v1/revocations")["revoked"]
    bad = front.ask("GET", "/v1/revocations?wait=31", holder=manager)
    assert check_answer(bad, "ca", "GET", "/v1/revocations")["field"] == "wait"


@pytest.mark.parametrize(("verb", "address"), [("prove", "127.0.0.1:7443"), ("confirm", "")])
def test_a_pending_certificate(verb: str, address: str, front: FrontForTests) -> None:
    pending = front.holder(bootstrap=True, address=address)
    front.clock.later(minutes=11 if verb == "confirm" else 0)
    for status in (200, 403):
        result = front.ask("POST", f"/v1/certificates/{pending.serial}/{verb}", holder=pending)
        check_answer(result, "ca", "POST", f"{CERTIFICATE}/{verb}")
        assert result.status_code == status, result.text


def test_an_authority_without_its_recorder(front: FrontForTests) -> None:
    token = front.token()
    front.recording.is_away = True
    assert check_answer(front.ask("GET", "/readyz"), "ca", "GET", "/readyz")["status"] == 503
    busy = front.enroll(token, new_key())
    assert check_answer(busy, "ca", "POST", "/.well-known/est/simpleenroll")["status"] == 503
    assert "retry-after" in busy.headers


# --- the credentials service ---


class OneCredential:
    """A catalog with one credential, or a revocations feed that was heard `age` seconds ago."""

    def __init__(self, age: int | None = 1) -> None:
        self.age = age

    async def judge(self) -> Judge:
        return subject().judge

    async def page(self, *, after: str, limit: int) -> tuple[list[Subject], str | None]:
        return [subject()], None

    def is_revoked(self, serial_number: int) -> bool:
        return False

    def age_s(self) -> int | None:
        return self.age


def credentials(*, age: int | None = 1) -> falcon.testing.TestClient:
    agent = Authority().agent("component", capabilities=("credential:use",))
    known = KnownPeer(read_peer(agent.certificate.public_bytes(Encoding.DER)))
    feed, refuser = OneCredential(age), Refuser(MemoryRecorder(), FixedClock())
    doorkeeper = Doorkeeper(
        application=parse_application("shop.example"),
        revocations=feed,
        refuser=refuser,
        refusals=RefusalCounter(),
        clock=FixedClock(),
        read=lambda: known,
    )
    made = world()
    parts = FrontParts(
        doorkeeper=doorkeeper,
        refuser=refuser,
        catalog=cast("Catalog", feed),
        pipeline=made.pipeline,
        batches=made.batches,
        revocations=feed,
        metrics=Metrics(stages=STAGES, counters=("denied",), processes=1),
        origin="shop.example/credentials",
        separated=True,
        mount_ledger=lambda _app, _admit: None,
    )
    return falcon.testing.TestClient(seen_by(peer_from("192.0.2.1"), build_app(parts)))


@pytest.mark.parametrize("path", ["/v1/credentials", "/healthz", "/readyz"])
def test_what_the_credentials_service_shows(path: str) -> None:
    body = check_answer(credentials().simulate_get(path), "credentials", "GET", path)
    assert path != "/v1/credentials" or body["credentials"][0]["name"] == "billing-aws"


@pytest.mark.parametrize("explain", ["", "/explain"])
@pytest.mark.parametrize(
    ("request_", "status"), [(REQUEST, 200), (REQUEST | {"method": "PUT"}, 403), (7, 400)]
)
def test_using_a_credential(explain: str, request_: object, status: int) -> None:
    path = f"/v1/credentials/billing-aws/operations/sign{explain}"
    result = credentials().simulate_post(path, json={"request": request_})
    assert result.status_code == status, result.text
    check_answer(result, "credentials", "POST", SIGN + explain)


def test_a_batch_of_uses() -> None:
    requests = [REQUEST, REQUEST | {"method": "PUT"}, {"n": 2**60}]
    path = "/v1/credentials/billing-aws/operations/sign/batch"
    result = credentials().simulate_post(path, json={"requests": requests})
    assert len(check_answer(result, "credentials", "POST", f"{SIGN}/batch")["results"]) == 3
    refused = credentials().simulate_post(path, json={"requests": []})
    assert check_answer(refused, "credentials", "POST", f"{SIGN}/batch")["field"] == "requests"


@pytest.mark.parametrize("path", ["/readyz", "/v1/credentials"])
def test_a_service_that_has_not_heard_of_revocations(path: str) -> None:
    result = credentials(age=None).simulate_get(path)
    assert check_answer(result, "credentials", "GET", path)["status"] == 503
    assert "retry-after" in result.headers


# --- the certificate manager ---


@pytest.fixture
def manager(monkeypatch: pytest.MonkeyPatch) -> falcon.testing.TestClient:
    """A manager whose node controller is this process; whoever connects is it, and root."""
    node = FakeNode()
    node.controller = node.machine.add(os.getpid())
    node.ready()
    monkeypatch.setattr(manager_api, "peer_of_request", lambda _view: peer(node.controller))
    serving = Serving(
        bootstrap=cast("Any", None),
        socket_path=Path("/m.sock"),
        listen=Address(host="::", port=1),
        upcall_lacks=None,
    )
    app = manager_api.build_api(
        node.agents,
        view=cast("LinuxProcesses", node.machine),
        root=authority().root,
        clock=node.clock,
        status=lambda: node.agents.status() | Manager(serving)._own_status() | {"ledgers": []},
        offload=Offload(threads=1),
    )
    return falcon.testing.TestClient(seen_by(LocalPeer(0), app))


def test_a_new_agent_and_its_end(manager: falcon.testing.TestClient) -> None:
    new = manager.simulate_post("/v1/agents", json={"subsystem": "component-harness"})
    made = check_answer(new, "manager", "POST", "/v1/agents")
    refused = manager.simulate_post("/v1/agents", json={"subsystem": "component"})
    assert check_answer(refused, "manager", "POST", "/v1/agents")["rule"] == "spawn-capability"
    for agent, status in ((made["agent"], 200), (CHILD, 404), (MANAGER_AGENT, 400)):
        ended = manager.simulate_post(f"/v1/agents/{agent}/end")
        check_answer(ended, "manager", "POST", "/v1/agents/{agent}/end")
        assert ended.status_code == status
    late = manager.simulate_post("/v1/claim", json={"token": made["claim_token"]})
    assert check_answer(late, "manager", "POST", "/v1/claim")["status"] == 409


def test_claims(manager: falcon.testing.TestClient) -> None:
    found = manager.simulate_post("/v1/claim", json={"agent": CONTROLLER})
    assert check_answer(found, "manager", "POST", "/v1/claim")["agent"] == CONTROLLER
    for asked, status in (({}, 400), ({"agent": CHILD}, 404), ({"agent": MANAGER_AGENT}, 401)):
        result = manager.simulate_post("/v1/claim", json=asked)
        assert check_answer(result, "manager", "POST", "/v1/claim")["status"] == status


def test_upcalls(manager: falcon.testing.TestClient) -> None:
    asked = {"callout": "", "requester_pid": os.getpid(), "requester_uid": 0, "requester_gid": 0}
    for agent, member in ((CONTROLLER, "payload_b64"), (CHILD, "errno")):
        result = manager.simulate_post("/v1/upcall", json=asked | {"agent": agent})
        assert member in check_answer(result, "manager", "POST", "/v1/upcall")


def test_a_managers_status(manager: falcon.testing.TestClient) -> None:
    manager.simulate_post("/v1/claim", json={"agent": MANAGER_AGENT})  # refused, and shown
    body = check_answer(manager.simulate_get("/v1/status"), "manager", "GET", "/v1/status")
    assert body["agents"]
    assert body["refused_claims"]
