"""A manager asks for an agent of its own node, for a spawner that may start it; the agent gets no more than
is left.
"""

from __future__ import annotations

import base64
import uuid
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from sqlalchemy import event

from ca.front.recent import RECENT_S
from ostiary.identity import identity_of
from tests.support.ca_front import (
    CHILD,
    MANAGER,
    NODE,
    FrontForTests,
    Holder,
    certificate_in,
    csr_of,
    new_key,
)


@pytest.fixture
def front(tmp_path: Path) -> FrontForTests:
    return FrontForTests(tmp_path)


@pytest.fixture
def manager(front: FrontForTests) -> Holder:
    return front.holder("certificate-manager", MANAGER)


def body(spawner: Holder, **changes: Any) -> dict[str, Any]:
    return {
        "subsystem": "component-harness",
        "capabilities": ["credential:use"],
        "endpoints": [],
        "spawner": spawner.serial,
        "csr": base64.b64encode(csr_of(new_key())).decode(),
        "agent": CHILD,
    } | changes


def test_an_agent_gets_what_was_asked_and_its_parent_is_known(front: FrontForTests, manager: Holder) -> None:
    spawner = front.holder()
    result = front.post("/v1/agents", body(spawner), holder=manager)
    assert result.status_code == 200, result.text
    certificate = x509.load_pem_x509_certificate(result.json["certificate"].encode())
    identity = identity_of(certificate)
    assert (identity.subsystem, identity.node, identity.agent) == ("component-harness", NODE, CHILD)
    assert identity.capabilities == {"credential:use"}
    assert x509.load_pem_x509_certificate(result.json["chain"].encode()) == front.authority.issuing
    row = front.reader.certificate(result.json["serial_number"])
    assert row is not None
    assert (row.parent, row.depth, row.ceiling) == (spawner.serial, 1, "credential:use")


def test_what_policy_does_not_grant_is_left_out(front: FrontForTests, manager: Holder) -> None:
    asked = body(front.holder(), capabilities=["credential:use", "ledger:read"])
    result = front.post("/v1/agents", asked, holder=manager)
    certificate = x509.load_pem_x509_certificate(result.json["certificate"].encode())
    assert identity_of(certificate).capabilities == {"credential:use"}


def test_only_who_holds_enroll_node_may_ask(front: FrontForTests) -> None:
    spawner = front.holder()
    result = front.post("/v1/agents", body(spawner), holder=spawner)
    assert (result.status_code, result.json["rule"]) == (403, "capability-enroll:node")
    assert front.recording.refusals() == [("spawn", "capability-enroll:node")]


def test_a_spawner_of_another_node_is_no_spawner(front: FrontForTests, manager: Holder) -> None:
    spawner = front.holder(node="n2.nodes.shop.example")
    result = front.post("/v1/agents", body(spawner), holder=manager)
    assert (result.status_code, result.json["rule"]) == (403, "spawn-spawner")


def test_a_spawner_starts_what_its_certificate_says_only(front: FrontForTests, manager: Holder) -> None:
    spawner = front.holder(capabilities=("ledger:read",))
    result = front.post("/v1/agents", body(spawner), holder=manager)
    assert (result.status_code, result.json["rule"]) == (403, "spawn-not-granted")


def revoke(front: FrontForTests, holder: Holder) -> None:
    path = f"/v1/certificates/{holder.serial}/revoke"
    assert front.post(path, {"reason": "cessationOfOperation"}, holder=holder).status_code == 200


def spawn(front: FrontForTests, manager: Holder, spawner: Holder) -> tuple[int, str]:
    """Ask for one more agent; status, and rule of a refusal."""
    result = front.post("/v1/agents", body(spawner, agent=str(uuid.uuid4())), holder=manager)
    return result.status_code, result.json.get("rule", "")


def test_in_a_moment_each_row_is_read_once(front: FrontForTests, manager: Holder) -> None:
    spawner = front.holder()
    read: list[str] = []

    @event.listens_for(front.reader.engine, "before_cursor_execute")
    def _count(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        read.extend(["row"] * ("FROM certificates" in statement))

    assert [spawn(front, manager, spawner) for _ in range(5)] == [(200, "")] * 5
    assert len(read) == 2
    front.clock.later(seconds=RECENT_S)
    assert spawn(front, manager, spawner) == (200, "")
    assert len(read) == 4


def test_a_revoked_manager_gets_nothing_from_the_moment_on(front: FrontForTests, manager: Holder) -> None:
    """At first by the recorder's word, then by the front's."""
    spawner = front.holder()
    assert spawn(front, manager, spawner) == (200, "")
    revoke(front, manager)
    assert spawn(front, manager, spawner) == (403, "spawn-not-manager")
    front.clock.later(seconds=RECENT_S)
    assert spawn(front, manager, spawner) == (403, "certificate-revoked")


def test_a_revoked_spawner_starts_nothing_from_the_moment_on(front: FrontForTests, manager: Holder) -> None:
    spawner = front.holder()
    assert spawn(front, manager, spawner) == (200, "")
    revoke(front, spawner)
    assert spawn(front, manager, spawner) == (403, "spawn-spawner")
    front.clock.later(seconds=RECENT_S)
    assert spawn(front, manager, spawner) == (403, "spawn-spawner")


def test_an_expired_manager_gets_nothing_however_often_it_asked(
    front: FrontForTests, manager: Holder
) -> None:
    spawner = front.holder()
    front.clock.at = manager.certificate.not_valid_after_utc
    assert spawn(front, manager, spawner)[0] == 200
    front.clock.later(seconds=RECENT_S / 2)
    result = front.post("/v1/agents", body(spawner), holder=manager)
    assert (result.status_code, result.json["field"]) == (401, "certificate")


def test_a_renewed_manager_asks_at_once_and_the_old_one_no_more(
    front: FrontForTests, manager: Holder
) -> None:
    spawner, key = front.holder(), new_key()
    front.clock.at += (manager.certificate.not_valid_after_utc - front.clock.at) / 2
    assert spawn(front, manager, spawner) == (200, "")
    renewal = front.post_csr("simplereenroll", csr_of(key), holder=manager)
    renewed = Holder(key=key, certificate=certificate_in(renewal))
    assert spawn(front, renewed, spawner) == (200, "")
    assert (front.status(renewed.serial), front.status(manager.serial)) == ("active", "superseded")
    assert spawn(front, manager, spawner) == (403, "spawn-not-manager")
    front.clock.later(seconds=RECENT_S)
    assert spawn(front, manager, spawner) == (403, "certificate-superseded")
    assert spawn(front, renewed, spawner) == (200, "")


def test_a_proven_manager_asks_at_once(front: FrontForTests) -> None:
    manager = front.holder("certificate-manager", MANAGER, bootstrap=True, address="127.0.0.1:7443")
    spawner = front.holder()
    assert spawn(front, manager, spawner) == (403, "certificate-bootstrap")
    assert front.post(f"/v1/certificates/{manager.serial}/prove", {}, holder=manager).status_code == 200
    # What it carries comes with its first renewal; it is let in, and lacks a capability.
    assert spawn(front, manager, spawner) == (403, "capability-enroll:node")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"subsystem": "Not A Name"}, "subsystem"),
        ({"agent": "x"}, "agent"),
        ({"capabilities": ["*"]}, "capabilities"),
        ({"capabilities": "credential:use"}, "capabilities"),
        ({"endpoints": ["http://elsewhere"]}, "endpoints"),
        ({"spawner": "zz"}, "serial_number"),
        ({"csr": "!!"}, "csr"),
        ({"csr": 7}, "csr"),
        ({"unknown": 1}, "unknown"),
    ],
)
def test_bad_input_is_named_and_changes_nothing(
    front: FrontForTests, manager: Holder, changes: dict[str, Any], named: str
) -> None:
    asked = body(front.holder()) | changes
    before = len(front.recording.items)
    result = front.post("/v1/agents", asked, holder=manager)
    assert (result.status_code, result.json["field"]) == (400, named)
    assert len(front.recording.items) == before


def test_broken_json_is_said(front: FrontForTests, manager: Holder) -> None:
    headers = {"Content-Type": "application/json"}
    result = front.ask("POST", "/v1/agents", body=b'{"sub', headers=headers, holder=manager)
    assert (result.status_code, result.json["detail"]) == (400, "the body is not JSON")
