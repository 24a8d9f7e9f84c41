"""Tokens: spent once, by what they name; each fault refused under its own rule, and nothing changed by it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ca.items import Resign, VoidToken
from ca.recorder.rules import RULES
from tests.support.ca_decisions import NODE, OPERATOR, TOKEN, Desk, key, kinds

BOOT = {
    "subsystem": "node-controller",
    "bootstrap": True,
    "capabilities": ("ledger:read",),
    "lifetime_s": 86400,
    "address": "192.0.2.1:7443",
}


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_a_token_buys_an_active_certificate_once(desk: Desk) -> None:
    desk.decide(desk.mint())
    item = desk.redeem()
    decision = desk.decide(item)
    assert (decision.verdict.decision, decision.attachment) == ("authorized", b"")
    row = desk.row(item.certificate.serial)
    assert (row.status, row.capabilities, row.generation, row.lineage) == (
        "active",
        "credential:use",
        1,
        row.serial,
    )
    assert (desk.token().status, desk.token().spent_serial) == ("spent", row.serial)
    assert desk.rows.shards[1].count == 1


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
    desk: Desk, token: dict[str, Any], redemption: dict[str, Any], rule: str
) -> None:
    assert not desk.rule(desk.mint(**token))
    before = desk.token()
    assert desk.rule(desk.redeem(**redemption)) == rule
    assert desk.token() == before
    assert not desk.rows.certificates
    assert not desk.rows.shards


def test_an_expired_and_a_void_token_buy_nothing(desk: Desk) -> None:
    desk.decide(desk.mint())
    desk.wait(600)
    assert desk.rule(desk.redeem()) == "token-expired"
    assert not desk.rule(VoidToken(operator=OPERATOR, token_id=TOKEN))
    assert desk.rule(desk.redeem()) == "token-void"
    assert desk.rule(VoidToken(operator=OPERATOR, token_id=TOKEN)) == "token-not-open"


def test_the_same_key_gets_the_same_certificate_for_ten_minutes(desk: Desk) -> None:
    desk.decide(desk.mint())
    first = desk.redeem()
    desk.decide(first)
    unsigned = desk.decide(desk.redeem())
    assert isinstance(unsigned.item, Resign)
    assert (unsigned.item.certificate, unsigned.attachment) == (first.certificate, b"")
    row = desk.row(first.certificate.serial)
    desk.rows.certificates[row.serial] = replace(row, signature=b"signed")
    desk.wait(600)
    signed = desk.decide(desk.redeem())
    assert (signed.known_output, signed.substitute, signed.attachment) == (b"signed", row.tbs, None)
    desk.wait(1)
    assert desk.rule(desk.redeem()) == "token-spent"
    assert len(desk.rows.certificates) == 1


def test_a_lost_signature_is_not_made_again_when_the_keyholder_would_refuse_it(desk: Desk) -> None:
    desk.decide(desk.mint())
    desk.decide(desk.redeem())
    desk.wait(181)
    refused = desk.decide(desk.redeem()).verdict
    assert (refused.rule, "new token" in refused.reason) == ("token-answer-lost", True)


def test_another_key_for_a_spent_token_is_refused_with_one_alarm(desk: Desk) -> None:
    desk.decide(desk.mint())
    item = desk.redeem()
    desk.decide(item)
    decision = desk.decide(desk.redeem(spki_digest=key(2)))
    assert (decision.verdict.rule, kinds(decision)) == ("token-spent", ["Alarm"])
    assert kinds(desk.decide(desk.redeem(spki_digest=key(3)))) == []
    assert desk.states() == {item.certificate.serial: "active"}


def test_another_key_while_pending_voids_both(desk: Desk) -> None:
    desk.decide(desk.mint(**BOOT))
    item = desk.redeem(subsystem="node-controller", capabilities=())
    assert not desk.rule(item)
    row = desk.row(item.certificate.serial)
    assert (row.status, row.deadline, row.granted) == ("pending", desk.now_s + 600, "ledger:read")
    decision = desk.decide(desk.redeem(subsystem="node-controller", capabilities=(), spki_digest=key(2)))
    assert (decision.verdict.rule, kinds(decision)) == ("token-contested", ["VoidCertificate", "Alarm"])
    assert "--again" in decision.verdict.reason
    assert desk.states() == {row.serial: "revoked"}
    assert [step.serial for step in desk.rows.revocations] == [row.serial]
    assert desk.rule(desk.redeem(subsystem="node-controller", capabilities=())) == "token-void"


def test_a_pending_certificate_carries_no_capability(desk: Desk) -> None:
    desk.decide(desk.mint(**BOOT))
    item = desk.redeem(subsystem="node-controller", capabilities=("ledger:read",))
    assert desk.rule(item) == "token-capabilities"


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
def test_an_operator_mints_within_policy(desk: Desk, changed: dict[str, Any], rule: str) -> None:
    assert desk.rule(desk.mint(**changed)) == rule
    assert not desk.rows.tokens


def test_a_token_id_is_taken_once(desk: Desk) -> None:
    desk.decide(desk.mint())
    assert desk.rule(desk.mint(token_digest=b"\x07" * 32)) == "token-taken"


def test_again_voids_what_the_node_had(desk: Desk) -> None:
    desk.decide(desk.mint(**BOOT))
    item = desk.redeem(subsystem="node-controller", capabilities=())
    desk.decide(item)
    assert desk.rule(desk.mint(**BOOT, token_id="b" * 16)) == "node-enrolled"
    assert not desk.rule(desk.mint(**BOOT, token_id="c" * 16, again=True))
    decision = desk.decide(desk.mint(**BOOT, token_id="d" * 16, again=True))
    assert kinds(decision) == []  # the certificate went with the first one
    assert desk.states() == {item.certificate.serial: "revoked"}
    assert (desk.token("c" * 16).status, desk.token("d" * 16).status) == ("void", "open")


def test_policy_that_was_narrowed_narrows_what_an_older_token_buys(desk: Desk) -> None:
    desk.decide(desk.mint())
    desk.grants["component-harness"] = frozenset()
    assert desk.rule(desk.redeem()) == "token-capabilities"
    assert not desk.rule(desk.redeem(capabilities=()))


def test_every_rule_is_explained() -> None:
    assert all(text and text[0].islower() for text in RULES.values())
