"""Ends: each happens once, takes what it must and no more, and appears in the feed and as an entry."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ca.certificates.shards import CAPACITY
from ca.items import FrontCertificate, ResponderCertificate
from ca.store.rows import CertificateRow
from ostiary.work.reports import Refuse
from tests.support.ca_decisions import NODE, Desk, key, kinds, peer

OTHER = "n2.nodes.shop.example"


@pytest.fixture
def desk() -> Desk:
    return Desk()


def family(desk: Desk) -> tuple[CertificateRow, CertificateRow, CertificateRow, CertificateRow]:
    """Manager, node controller, harness, component."""
    manager, parent = desk.manager(), desk.controller()
    child_item = desk.spawn(manager, parent)
    desk.decide(child_item)
    child = desk.row(child_item.certificate.serial)
    grandchild_item = desk.spawn(manager, child, subsystem="component")
    desk.decide(grandchild_item)
    return manager, parent, child, desk.row(grandchild_item.certificate.serial)


def test_an_ordinary_end_takes_the_lineage_only(desk: Desk) -> None:
    _, parent, child, _ = family(desk)
    item = desk.renew(parent)
    desk.decide(item)
    decision = desk.decide(desk.revoke(parent.serial))
    assert kinds(decision) == ["RevokeDescendant"]  # the pending successor
    assert desk.states()[item.certificate.serial] == "revoked"
    assert desk.states()[child.serial] == "active"
    assert desk.rule(desk.revoke(parent.serial)) == "certificate-revoked"
    assert desk.rule(desk.revoke("ffff")) == "certificate-unknown"


def test_a_compromised_key_takes_its_descendants(desk: Desk) -> None:
    manager, parent, child, grandchild = family(desk)
    decision = desk.decide(desk.revoke(parent.serial, "keyCompromise"))
    assert [item.serial for item in decision.also] == [child.serial, grandchild.serial]  # type: ignore[attr-defined]
    assert {serial for serial, state in desk.states().items() if state == "active"} == {manager.serial}
    assert {step.reason for step in desk.rows.revocations} == {"keyCompromise"}
    assert len(desk.rows.revocations) == 3


def test_descendants_of_an_earlier_generation_go_too(desk: Desk) -> None:
    _, parent, child, _ = family(desk)
    item = desk.renew(parent)
    desk.decide(item)
    desk.decide(desk.used(item.certificate.serial))
    desk.decide(desk.revoke(item.certificate.serial, "keyCompromise"))
    assert desk.states()[child.serial] == "revoked"
    assert desk.states()[parent.serial] == "revoked"  # superseded, and still within its time


def test_a_superseded_certificate_can_be_revoked_alone(desk: Desk) -> None:
    first = desk.enrolled()
    item = desk.renew(first)
    desk.decide(item)
    desk.decide(desk.used(item.certificate.serial))
    assert not desk.rule(desk.revoke(first.serial))
    assert desk.states() == {first.serial: "revoked", item.certificate.serial: "active"}


def test_an_agent_and_its_nodes_manager_may_end_it_and_nobody_else(desk: Desk) -> None:
    manager, parent, child, grandchild = family(desk)
    stranger = desk.manager(OTHER)
    for by in (stranger, grandchild, parent):
        assert desk.rule(desk.retire(by, child.serial)) == "retire-stranger"
    assert not desk.rule(desk.retire(child, child.serial))
    assert not desk.rule(desk.retire(manager, grandchild.serial))
    assert desk.states()[parent.serial] == "active"


def test_an_end_by_an_older_generation_ends_the_newer(desk: Desk) -> None:
    first = desk.enrolled()
    item = desk.renew(first)
    desk.decide(item)
    desk.decide(desk.used(item.certificate.serial))
    assert not desk.rule(desk.retire(first, first.serial))
    assert set(desk.states().values()) == {"revoked"}


def test_a_shard_is_full_at_its_capacity(desk: Desk) -> None:
    desk.enrolled()
    desk.rows.shards[1] = replace(desk.rows.shards[1], count=CAPACITY - 1)
    row = desk.enrolled()
    assert desk.rows.shards[1].count == CAPACITY
    assert desk.rule(desk.renew(row)) == "certificate-shard"
    assert not desk.rule(desk.renew(row, shard=2))


@pytest.mark.parametrize(
    "changed",
    [{"subsystem": "component"}, {"node": NODE}, {"capabilities": ("credential:use",)}],
)
def test_the_front_certifies_itself_only(desk: Desk, changed: dict[str, Any]) -> None:
    right = {"subsystem": "certificate-authority", "node": "ca.shop.example", "capabilities": ()}
    assert desk.rule(FrontCertificate(certificate=desk.prepared(**{**right, **changed}))) == "front-identity"
    assert not desk.rule(FrontCertificate(certificate=desk.prepared(**right)))


def test_a_serial_number_is_taken_once(desk: Desk) -> None:
    row = desk.enrolled()
    right = {"subsystem": "certificate-authority", "node": "ca.shop.example", "capabilities": ()}
    again = FrontCertificate(certificate=desk.prepared(**right, serial=row.serial))
    assert desk.rule(again) == "certificate-serial-taken"


def test_a_responders_certificate_is_short(desk: Desk) -> None:
    item = ResponderCertificate(serial="0b", not_after=desk.now_s + 86401, spki_digest=key(1), tbs=b"t")
    assert desk.rule(item) == "responder-times"


def test_a_refusal_by_the_front_is_recorded_as_the_denial_that_it_is(desk: Desk) -> None:
    row = desk.enrolled()
    item = Refuse(by=peer(row), act="spawn", target="x", rule="policy-7", reason="no")
    assert desk.decide(item).verdict == ("denied", "policy-7", "no")
