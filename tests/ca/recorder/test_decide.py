"""The table of decisions: every item that a channel may ask for has one, and a refusal changes nothing."""

from __future__ import annotations

from ca import items
from ca.recorder.decide import DECISIONS, decide_item
from ca.recorder.decision import Terms
from ca.recorder.rules import RULES
from ca.store.rows import Rows
from ostiary.certificate import ECDSA_SHA256
from ostiary.work.item import Peer
from ostiary.work.reports import Alarm, Refusals, Refuse
from tests.support.ca_decisions import NOW_S, TOKEN, RecorderInMemory

TERMS = Terms(
    now_s=NOW_S,
    node="ca.shop.example",
    grants={},
    signature_algorithm_der=ECDSA_SHA256,
    max_lifetime_s=7200,
    max_node_lifetime_s=86400,
)


def test_every_item_of_a_channel_is_decided() -> None:
    asked = {*items.FRONT, *items.RESPONDER, *items.ADMIN, *items.INTERNAL}
    # A list is the publisher's; the other two only follow from other acts.
    assert asked - set(DECISIONS) == {items.PublishCRL, items.RevokeDescendant, items.VoidCertificate}


def test_a_refusal_is_a_denial_with_its_rule_and_changes_no_row() -> None:
    rows = Rows(now_s=NOW_S)
    decision = decide_item(rows, RecorderInMemory().redeem(), TERMS)
    assert (decision.verdict.decision, decision.verdict.rule) == ("denied", "token-unknown")
    assert decision.verdict.rule in RULES
    assert rows == Rows(now_s=NOW_S)


def test_what_the_front_refused_is_recorded_as_the_denial_that_it_is() -> None:
    peer = Peer(serial="1f", subsystem="component", node="n1.nodes.shop.example", agent="a")
    refuse = Refuse(by=peer, act="whoami", target="1f", rule="certificate-revoked", reason="it is revoked")
    verdict = decide_item(Rows(now_s=NOW_S), refuse, TERMS).verdict
    assert (verdict.decision, verdict.rule, verdict.reason) == (
        "denied",
        "certificate-revoked",
        "it is revoked",
    )


def test_counts_and_alarms_are_recorded_and_give_the_keyholder_nothing_to_do() -> None:
    for item in (
        Refusals(source="192.0.2.1", reason="token-unknown", count=3),
        Alarm(what="w", detail=TOKEN),
    ):
        decision = decide_item(Rows(now_s=NOW_S), item, TERMS)
        assert (decision.verdict.decision, decision.attachment, decision.also) == ("authorized", None, ())
