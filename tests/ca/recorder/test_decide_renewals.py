"""Lineages: one active generation, at most one pending; proofs; clones; and no state without a way on or an
end.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ca.items import Activate, ExpirePending, Resign
from ca.store.rows import CertificateRow
from tests.support.ca_decisions import Desk, key, kinds


@pytest.fixture
def desk() -> Desk:
    return Desk()


def bootstrapped(desk: Desk, address: str = "192.0.2.1:7443") -> CertificateRow:
    return desk.enrolled(
        subsystem="node-controller",
        bootstrap=True,
        capabilities=("ledger:read",),
        lifetime_s=86400,
        address=address,
    )


def renewed(desk: Desk, row: CertificateRow, number: int = 2) -> CertificateRow:
    item = desk.renew(row, number=number)
    assert not desk.rule(item)
    return desk.row(item.certificate.serial)


def test_a_renewal_waits_for_its_first_use_and_then_supersedes(desk: Desk) -> None:
    first = desk.enrolled()
    second = renewed(desk, first)
    assert (second.status, second.generation, second.lineage) == ("pending", 2, first.serial)
    assert desk.row(first.serial).status == "active"
    assert not desk.rule(desk.used(second.serial))
    assert desk.states() == {first.serial: "superseded", second.serial: "active"}
    assert desk.rule(desk.used(second.serial)) == "certificate-not-pending"


def test_a_lost_answer_is_no_alarm(desk: Desk) -> None:
    first = desk.enrolled()
    lost = renewed(desk, first)
    same = desk.decide(desk.renew(first, number=2))
    assert isinstance(same.item, Resign)
    assert same.substitute == lost.tbs
    decision = desk.decide(desk.renew(first, number=3))
    assert (decision.verdict.decision, kinds(decision)) == ("authorized", ["VoidCertificate"])
    assert sorted(desk.states().values()) == ["active", "pending", "revoked"]
    assert desk.row(lost.serial).status == "revoked"


def test_a_renewal_whose_signature_was_lost_for_good_is_told_to_take_another_key(desk: Desk) -> None:
    first = desk.enrolled()
    renewed(desk, first)
    desk.wait(181)
    refused = desk.decide(desk.renew(first, number=2)).verdict
    assert refused.rule == "token-answer-lost"
    assert "another key" in refused.reason
    assert not desk.rule(desk.renew(first, number=3))


def test_a_renewal_by_an_older_generation_stops_the_lineage(desk: Desk) -> None:
    first = desk.enrolled()
    second = renewed(desk, first)
    desk.decide(desk.used(second.serial))
    decision = desk.decide(desk.renew(first, number=4))
    assert (decision.verdict.rule, kinds(decision)) == ("lineage-clone", ["Alarm"])
    assert desk.rule(desk.renew(desk.row(second.serial), number=5)) == "lineage-stopped"
    assert desk.row(second.serial).status == "active"  # revoking is policy
    assert not desk.rule(desk.revoke(second.serial))


@pytest.mark.parametrize(
    ("changed", "rule"),
    [
        ({"subsystem": "component"}, "lineage-identity"),
        ({"node": "n2.nodes.shop.example"}, "lineage-identity"),
        ({"agent": "5b1f1a3e-7a0c-4c1d-9b55-0c3b9f3f2a11"}, "lineage-identity"),
        ({"capabilities": ("credential:use", "spawn:component")}, "lineage-capabilities"),
        ({"endpoints": ("https+tcp://x.n1.nodes.shop.example:1",)}, "lineage-endpoints"),
        ({"lifetime_s": 7201}, "certificate-lifetime"),
    ],
)
def test_a_lineage_keeps_what_it_is(desk: Desk, changed: dict[str, Any], rule: str) -> None:
    first = desk.enrolled()
    assert desk.rule(desk.renew(first, **changed)) == rule
    assert desk.states() == {first.serial: "active"}


def test_expired_pending_and_revoked_certificates_do_not_renew(desk: Desk) -> None:
    pending = bootstrapped(desk)
    assert desk.rule(desk.renew(pending)) == "certificate-not-active"
    active = desk.enrolled()
    desk.wait(7201)
    assert desk.rule(desk.renew(active)) == "certificate-not-active"
    desk.decide(desk.revoke(active.serial))
    assert desk.rule(desk.renew(desk.row(active.serial))) == "certificate-not-active"


def test_after_the_dial_back_the_renewal_carries_what_the_token_bought(desk: Desk) -> None:
    pending = bootstrapped(desk)
    assert pending.capabilities == ""
    assert not desk.rule(Activate(serial=pending.serial, means="dial-back"))
    active = desk.row(pending.serial)
    assert (active.status, active.deadline, active.activated_by) == ("active", None, "dial-back")
    assert renewed(desk, active).capabilities == "ledger:read"


@pytest.mark.parametrize(
    ("address", "after_s", "rule"),
    [
        ("192.0.2.1:7443", 0, "proof-kind"),
        ("192.0.2.1:7443", 601, "proof-kind"),
        ("", 599, "proof-window"),
        ("", 600, ""),
        ("", 1200, "proof-late"),
    ],
)
def test_its_own_word_counts_after_the_window_where_there_is_no_address(
    desk: Desk, address: str, after_s: int, rule: str
) -> None:
    row = bootstrapped(desk, address)
    desk.wait(after_s)
    expected = "proof-late" if address and after_s >= 600 else rule
    assert desk.rule(Activate(serial=row.serial, means="self")) == expected


def test_use_does_not_prove_a_bootstrap_certificate_nor_a_dial_back_a_renewal(desk: Desk) -> None:
    assert desk.rule(desk.used(bootstrapped(desk).serial)) == "proof-kind"
    second = renewed(desk, desk.enrolled())
    assert desk.rule(Activate(serial=second.serial, means="dial-back")) == "proof-kind"
    assert desk.rule(desk.confirm(second)) == "proof-kind"


def test_an_operator_confirms_by_fingerprint(desk: Desk) -> None:
    row = bootstrapped(desk)
    assert desk.rule(desk.confirm(row, fingerprint=b"\x00" * 32)) == "fingerprint-differs"
    assert desk.rule(desk.confirm(row, node="n2.nodes.shop.example")) == "fingerprint-node"
    assert not desk.rule(desk.confirm(row))
    assert desk.row(row.serial).activated_by == "operator"


def test_not_proven_in_time_means_revoked(desk: Desk) -> None:
    row = bootstrapped(desk)
    desk.wait(599)
    assert desk.rule(ExpirePending(serial=row.serial)) == "certificate-not-pending"
    desk.wait(1)
    assert desk.rule(Activate(serial=row.serial, means="dial-back")) == "proof-late"
    assert not desk.rule(ExpirePending(serial=row.serial))
    assert desk.row(row.serial).status == "revoked"


def test_policy_that_was_narrowed_narrows_the_next_generation(desk: Desk) -> None:
    first = desk.enrolled()
    desk.grants["component-harness"] = frozenset()
    assert desk.rule(desk.renew(first)) == "lineage-capabilities"
    assert not desk.rule(desk.renew(first, capabilities=()))


STEPS = st.lists(
    st.sampled_from(["renew", "renew-old", "use", "wait", "late", "revoke", "redeem-again"]), max_size=14
)


@given(steps=STEPS)
@example(steps=["wait", "wait", "wait", "wait", "renew", "wait", "use"])  # used after the first one's end
def test_a_lineage_has_at_most_one_active_and_one_pending_and_no_end_that_is_not_an_end(
    steps: list[str],
) -> None:
    """A model of any life: whatever happens, the states stay within the table and each can still be left or
    is final.
    """
    desk = Desk()
    first = desk.enrolled()
    numbers = iter(range(2, 100))
    for step in steps:
        rows = sorted(desk.rows.certificates.values(), key=lambda row: row.generation)
        match step:
            case "renew":
                active = next((row for row in rows if row.status == "active"), first)
                desk.decide(desk.renew(active, number=next(numbers)))
            case "renew-old":
                desk.decide(desk.renew(rows[0], number=next(numbers)))
            case "use":
                desk.decide(desk.used(rows[-1].serial))
            case "wait":
                desk.wait(1500)
            case "late":
                desk.decide(ExpirePending(serial=rows[-1].serial))
            case "revoke":
                desk.decide(desk.revoke(rows[-1].serial))
            case _:
                desk.decide(desk.redeem(spki_digest=key(next(numbers))))
        _check(desk)


def _check(desk: Desk) -> None:
    rows = list(desk.rows.certificates.values())
    # What has expired keeps the state that it had: nothing loads it any more.
    states = [row.status for row in rows if row.not_after >= desk.now_s]
    assert states.count("active") <= 1
    assert states.count("pending") <= 1
    assert len({row.generation for row in rows}) == len(rows)
    revoked = {row.serial for row in rows if row.status == "revoked"}
    assert [step.serial for step in desk.rows.revocations].__len__() == len(revoked)
    for row in rows:
        assert (row.deadline is not None) == (row.status == "pending")
        assert set(row.capabilities.split()) <= set(row.granted.split())
        if row.status != "revoked":  # whatever is not ended can be ended
            assert not _copy(desk).rule(desk.revoke(row.serial))


def _copy(desk: Desk) -> Desk:
    copy = Desk()
    copy.rows.now_s = desk.now_s
    for row in desk.rows.certificates.values():
        copy.rows.load_certificate(replace(row))
    return copy
