"""Tokens: spent once, by what they name; each fault refused under its own rule, and nothing changed by it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ca.items import Resign, VoidToken
from ca.recorder.rules import RULES
from tests.support.ca_decisions import NODE, OPERATOR, TOKEN, RecorderInMemory, key, kinds

BOOT = {
    "subsystem": "node-controller",
    "bootstrap": True,
    "capabilities": ("ledger:read",),
    "lifetime_s": 86400,
    "address": "192.0.2.1:7443",
}


@pytest.fixture
def recorder() -> RecorderInMemory:
    return RecorderInMemory()


def test_a_token_buys_an_active_certificate_once(recorder: RecorderInMemory) -> None:
    recorder.decide(recorder.mint())
    item = recorder.redeem()
    decision = recorder.decide(item)
    assert (decision.verdict.decision, decision.attachment) == ("authorized", b"")
    row = recorder.row(item.certificate.serial)
    assert (row.status, row.capabilities, row.generation, row.lineage) == (
        "active",
        "credential:use",
        1,
        row.serial,
    )
    assert (recorder.token().status, recorder.token().spent_serial) == ("spent", row.serial)
    assert recorder.rows.shards[1].count == 1


FAULTS: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    ("secret", {}, {"digest": b"\x06" * 32}, "token-unknown"),
    ("id", {}, {"token_id": "bbbbbbbbbbbbbbbb"}, "token-unknown"),
    ("address", {"address": "192.0.2.9"}, {}, "token-other-address"),
    ("address of a bootstrap token", {"address": "192.0.2.11:7443"}, {}, "token-other-address"),
    ("bound key", {"spki_digest": key(9)}, {}, "token-other-key"),
    ("sub-system", {}, {"subsystem": "component"}, "token-other-subsystem"),
    ("node", {}, {"node": "n2.nodes.shop.example"}, "token-other-node"),
    ("agent", {}, {"agent": "5b1f1a3e-7a0c-4c1d-9b55-0c3b9f3f2a11"}, "token-other-agent"),
    ("capability", {}, {"capabilities": ("credential:use", "spawn:component")}, "token-capabilities"),
    ("endpoint", {}, {"endpoints": (f"https+tcp://x.{NODE}:1",)}, "token-endpoints"),
    ("lifetime", {"lifetime_s": 3600}, {}, "certificate-lifetime"),
    ("begin", {}, {"not_before": 1}, "certificate-times"),
    ("shard that is not open", {}, {"shard": 3}, "certificate-shard"),
]


@pytest.mark.parametrize(("token", "redemption", "rule"), [f[1:] for f in FAULTS], ids=[f[0] for f in FAULTS])
def test_one_thing_wrong_is_refused_under_its_rule_and_changes_nothing(
    recorder: RecorderInMemory, token: dict[str, Any], redemption: dict[str, Any], rule: str
) -> None:
    assert not recorder.rule(recorder.mint(**token))
    before = recorder.token()
    assert recorder.rule(recorder.redeem(**redemption)) == rule
    assert recorder.token() == before
    assert not recorder.rows.certificates
    assert not recorder.rows.shards


def test_an_expired_and_a_void_token_buy_nothing(recorder: RecorderInMemory) -> None:
    recorder.decide(recorder.mint())
    recorder.wait(600)
    assert recorder.rule(recorder.redeem()) == "token-expired"
    assert not recorder.rule(VoidToken(operator=OPERATOR, token_id=TOKEN))
    assert recorder.rule(recorder.redeem()) == "token-void"
    assert recorder.rule(VoidToken(operator=OPERATOR, token_id=TOKEN)) == "token-not-open"


def test_the_same_key_gets_the_same_certificate_for_ten_minutes(recorder: RecorderInMemory) -> None:
    recorder.decide(recorder.mint())
    first = recorder.redeem()
    recorder.decide(first)
    unsigned = recorder.decide(recorder.redeem())
    assert isinstance(unsigned.item, Resign)
    assert (unsigned.item.certificate, unsigned.attachment) == (first.certificate, b"")
    row = recorder.row(first.certificate.serial)
    recorder.rows.certificates[row.serial] = replace(row, signature=b"signed")
    recorder.wait(600)
    signed = recorder.decide(recorder.redeem())
    assert (signed.known_output, signed.substitute, signed.attachment) == (b"signed", row.tbs, None)
    recorder.wait(1)
    assert recorder.rule(recorder.redeem()) == "token-spent"
    assert len(recorder.rows.certificates) == 1


def test_a_lost_signature_is_not_made_again_when_the_keyholder_would_refuse_it(
    recorder: RecorderInMemory,
) -> None:
    recorder.decide(recorder.mint())
    recorder.decide(recorder.redeem())
    recorder.wait(181)
    refused = recorder.decide(recorder.redeem()).verdict
    assert (refused.rule, "new token" in refused.reason) == ("token-answer-lost", True)


def test_another_key_for_a_spent_token_is_refused_with_one_alarm(recorder: RecorderInMemory) -> None:
    recorder.decide(recorder.mint())
    item = recorder.redeem()
    recorder.decide(item)
    decision = recorder.decide(recorder.redeem(spki_digest=key(2)))
    assert (decision.verdict.rule, kinds(decision)) == ("token-spent", ["Alarm"])
    assert kinds(recorder.decide(recorder.redeem(spki_digest=key(3)))) == []
    assert recorder.states() == {item.certificate.serial: "active"}


def test_another_key_while_pending_voids_both(recorder: RecorderInMemory) -> None:
    recorder.decide(recorder.mint(**BOOT))
    item = recorder.redeem(subsystem="node-controller", capabilities=())
    assert not recorder.rule(item)
    row = recorder.row(item.certificate.serial)
    assert (row.status, row.deadline, row.granted) == ("pending", recorder.now_s + 600, "ledger:read")
    decision = recorder.decide(
        recorder.redeem(subsystem="node-controller", capabilities=(), spki_digest=key(2))
    )
    assert (decision.verdict.rule, kinds(decision)) == ("token-contested", ["VoidCertificate", "Alarm"])
    assert "--again" in decision.verdict.reason
    assert recorder.states() == {row.serial: "revoked"}
    assert [step.serial for step in recorder.rows.revocations] == [row.serial]
    assert recorder.rule(recorder.redeem(subsystem="node-controller", capabilities=())) == "token-void"


def test_a_pending_certificate_carries_no_capability(recorder: RecorderInMemory) -> None:
    recorder.decide(recorder.mint(**BOOT))
    item = recorder.redeem(subsystem="node-controller", capabilities=("ledger:read",))
    assert recorder.rule(item) == "token-capabilities"


@pytest.mark.parametrize(
    ("changed", "rule"),
    [
        ({"capabilities": ("credential:use", "ledger:read")}, "grant"),
        ({"subsystem": "unheard-of"}, "grant"),
        ({"subsystem": "certificate-authority", "capabilities": ()}, "reserved-subsystem"),
        ({"expires_at": 1}, "token-times"),
        ({"lifetime_s": 86401}, "token-times"),
    ],
)
def test_an_operator_mints_within_policy(
    recorder: RecorderInMemory, changed: dict[str, Any], rule: str
) -> None:
    assert recorder.rule(recorder.mint(**changed)) == rule
    assert not recorder.rows.tokens


def test_a_token_id_is_taken_once(recorder: RecorderInMemory) -> None:
    recorder.decide(recorder.mint())
    assert recorder.rule(recorder.mint(token_digest=b"\x07" * 32)) == "token-taken"


def test_again_voids_what_the_node_had(recorder: RecorderInMemory) -> None:
    recorder.decide(recorder.mint(**BOOT))
    item = recorder.redeem(subsystem="node-controller", capabilities=())
    recorder.decide(item)
    assert recorder.rule(recorder.mint(**BOOT, token_id="b" * 16)) == "node-enrolled"
    assert not recorder.rule(recorder.mint(**BOOT, token_id="c" * 16, again=True))
    decision = recorder.decide(recorder.mint(**BOOT, token_id="d" * 16, again=True))
    assert kinds(decision) == []  # the certificate went with the first one
    assert recorder.states() == {item.certificate.serial: "revoked"}
    assert (recorder.token("c" * 16).status, recorder.token("d" * 16).status) == ("void", "open")


def test_policy_that_was_narrowed_narrows_what_an_older_token_buys(recorder: RecorderInMemory) -> None:
    recorder.decide(recorder.mint())
    recorder.grants["component-harness"] = frozenset()
    assert recorder.rule(recorder.redeem()) == "token-capabilities"
    assert not recorder.rule(recorder.redeem(capabilities=()))


def test_every_rule_is_explained() -> None:
    assert all(text and text[0].islower() for text in RULES.values())
