"""Ends: each happens once, takes what it must and no more, and appears in the feed and as an entry."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ca.certificates.shards import CAPACITY
from ca.items import FrontCertificate, Renew, ResponderCertificate
from ca.store.rows import CertificateRow
from ostiary.work.reports import Refuse
from tests.support.ca_decisions import NODE, RecorderInMemory, key, kinds, peer

OTHER = "n2.nodes.shop.example"


@pytest.fixture
def recorder() -> RecorderInMemory:
    return RecorderInMemory()


def family(
    recorder: RecorderInMemory,
) -> tuple[CertificateRow, CertificateRow, CertificateRow, CertificateRow]:
    """Manager, node controller, harness, component."""
    manager, parent = recorder.manager(), recorder.controller()
    child_item = recorder.spawn(manager, parent)
    recorder.decide(child_item)
    child = recorder.row(child_item.certificate.serial)
    grandchild_item = recorder.spawn(manager, child, subsystem="component")
    recorder.decide(grandchild_item)
    return manager, parent, child, recorder.row(grandchild_item.certificate.serial)


def test_an_ordinary_end_takes_the_lineage_only(recorder: RecorderInMemory) -> None:
    _, parent, child, _ = family(recorder)
    recorder.wait_until_due(parent)
    item = recorder.renew(parent)
    recorder.decide(item)
    decision = recorder.decide(recorder.revoke(parent.serial))
    assert kinds(decision) == ["RevokeDescendant"]  # the pending successor
    assert recorder.states()[item.certificate.serial] == "revoked"
    assert recorder.states()[child.serial] == "active"
    assert recorder.rule(recorder.revoke(parent.serial)) == "certificate-revoked"
    assert recorder.rule(recorder.revoke("ffff")) == "certificate-unknown"


def test_a_compromised_key_takes_its_descendants(recorder: RecorderInMemory) -> None:
    manager, parent, child, grandchild = family(recorder)
    decision = recorder.decide(recorder.revoke(parent.serial, "keyCompromise"))
    ended = [getattr(item, "serial", None) for item in decision.also]
    assert ended == [child.serial, grandchild.serial]
    assert {serial for serial, state in recorder.states().items() if state == "active"} == {manager.serial}
    assert {step.reason for step in recorder.rows.revocations} == {"keyCompromise"}
    assert len(recorder.rows.revocations) == 3


def _renewed_after_a_change_of_policy(recorder: RecorderInMemory, row: CertificateRow) -> Renew:
    """Early: a day's certificate renewed at half of its life has no children of two hours any more."""
    recorder.grants[row.subsystem] -= {"ledger:read"}
    return recorder.renew(row, capabilities=("spawn:component-harness",))


def test_descendants_of_an_earlier_generation_go_too(recorder: RecorderInMemory) -> None:
    _, parent, child, _ = family(recorder)
    item = _renewed_after_a_change_of_policy(recorder, parent)
    recorder.decide(item)
    recorder.decide(recorder.used(item.certificate.serial))
    recorder.decide(recorder.revoke(item.certificate.serial, "keyCompromise"))
    assert recorder.states()[child.serial] == "revoked"
    assert recorder.states()[parent.serial] == "revoked"  # superseded, and still within its time


def test_a_superseded_certificate_can_be_revoked_alone(recorder: RecorderInMemory) -> None:
    first = recorder.enrolled()
    recorder.wait_until_due(first)
    item = recorder.renew(first)
    recorder.decide(item)
    recorder.decide(recorder.used(item.certificate.serial))
    assert not recorder.rule(recorder.revoke(first.serial))
    assert recorder.states() == {first.serial: "revoked", item.certificate.serial: "active"}


def test_an_agent_and_its_nodes_manager_may_end_it_and_nobody_else(recorder: RecorderInMemory) -> None:
    manager, parent, child, grandchild = family(recorder)
    stranger = recorder.manager(OTHER)
    for by in (stranger, grandchild, parent):
        assert recorder.rule(recorder.retire(by, child.serial)) == "retire-stranger"
    assert not recorder.rule(recorder.retire(child, child.serial))
    assert not recorder.rule(recorder.retire(manager, grandchild.serial))
    assert recorder.states()[parent.serial] == "active"


def test_an_end_by_an_older_generation_ends_the_newer(recorder: RecorderInMemory) -> None:
    first = recorder.enrolled()
    recorder.wait_until_due(first)
    item = recorder.renew(first)
    recorder.decide(item)
    recorder.decide(recorder.used(item.certificate.serial))
    assert not recorder.rule(recorder.retire(first, first.serial))
    assert set(recorder.states().values()) == {"revoked"}


def test_a_shard_is_full_at_its_capacity(recorder: RecorderInMemory) -> None:
    recorder.enrolled()
    recorder.rows.shards[1] = replace(recorder.rows.shards[1], count=CAPACITY - 1)
    row = recorder.enrolled()
    assert recorder.rows.shards[1].count == CAPACITY
    recorder.wait_until_due(row)
    assert recorder.rule(recorder.renew(row)) == "certificate-shard"
    assert not recorder.rule(recorder.renew(row, shard=2))


@pytest.mark.parametrize(
    "changed",
    [{"subsystem": "component"}, {"node": NODE}, {"capabilities": ("credential:use",)}],
)
def test_the_front_certifies_itself_only(recorder: RecorderInMemory, changed: dict[str, Any]) -> None:
    right = {"subsystem": "certificate-authority", "node": "ca.shop.example", "capabilities": ()}
    assert (
        recorder.rule(FrontCertificate(certificate=recorder.prepared(**{**right, **changed})))
        == "front-identity"
    )
    assert not recorder.rule(FrontCertificate(certificate=recorder.prepared(**right)))


def test_a_serial_number_is_taken_once(recorder: RecorderInMemory) -> None:
    row = recorder.enrolled()
    right = {"subsystem": "certificate-authority", "node": "ca.shop.example", "capabilities": ()}
    again = FrontCertificate(certificate=recorder.prepared(**right, serial=row.serial))
    assert recorder.rule(again) == "certificate-serial-taken"


def test_a_responders_certificate_is_short(recorder: RecorderInMemory) -> None:
    item = ResponderCertificate(serial="0b", not_after=recorder.now_s + 86401, spki_digest=key(1), tbs=b"t")
    assert recorder.rule(item) == "responder-times"


def test_a_refusal_by_the_front_is_recorded_as_the_denial_that_it_is(recorder: RecorderInMemory) -> None:
    row = recorder.enrolled()
    item = Refuse(by=peer(row), act="spawn", target="x", rule="policy-7", reason="no")
    assert recorder.decide(item).verdict == ("denied", "policy-7", "no")
