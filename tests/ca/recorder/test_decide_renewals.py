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
from ca.recorder.decide_renewals import RENEWALS
from ca.store.rows import CertificateRow
from certmgr import lifecycle
from ostiary.timestamp import moment_of
from tests.support.ca_decisions import RecorderInMemory, key, kinds


@pytest.fixture
def recorder() -> RecorderInMemory:
    return RecorderInMemory()


def bootstrapped(recorder: RecorderInMemory, address: str = "192.0.2.1:7443") -> CertificateRow:
    return recorder.enrolled(
        subsystem="node-controller",
        bootstrap=True,
        capabilities=("ledger:read",),
        lifetime_s=86400,
        address=address,
    )


def renewed(recorder: RecorderInMemory, row: CertificateRow, number: int = 2) -> CertificateRow:
    recorder.wait_until_due(row)
    item = recorder.renew(row, number=number)
    assert not recorder.rule(item)
    return recorder.row(item.certificate.serial)


def test_a_renewal_waits_for_its_first_use_and_then_supersedes(recorder: RecorderInMemory) -> None:
    first = recorder.enrolled()
    second = renewed(recorder, first)
    assert (second.status, second.generation, second.lineage) == ("pending", 2, first.serial)
    assert recorder.row(first.serial).status == "active"
    assert not recorder.rule(recorder.used(second.serial))
    assert recorder.states() == {first.serial: "superseded", second.serial: "active"}
    assert recorder.rule(recorder.used(second.serial)) == "certificate-not-pending"


def test_a_lost_answer_is_no_alarm(recorder: RecorderInMemory) -> None:
    first = recorder.enrolled()
    lost = renewed(recorder, first)
    same = recorder.decide(recorder.renew(first, number=2))
    assert isinstance(same.item, Resign)
    assert same.substitute == lost.tbs
    decision = recorder.decide(recorder.renew(first, number=3))
    assert (decision.verdict.decision, kinds(decision)) == ("authorized", ["VoidCertificate"])
    assert sorted(recorder.states().values()) == ["active", "pending", "revoked"]
    assert recorder.row(lost.serial).status == "revoked"


def test_a_renewal_whose_signature_was_lost_for_good_is_told_to_take_another_key(
    recorder: RecorderInMemory,
) -> None:
    first = recorder.enrolled()
    renewed(recorder, first)
    recorder.wait(181)
    refused = recorder.decide(recorder.renew(first, number=2)).verdict
    assert refused.rule == "token-answer-lost"
    assert "another key" in refused.reason
    assert not recorder.rule(recorder.renew(first, number=3))


def test_a_renewal_by_an_older_generation_stops_the_lineage(recorder: RecorderInMemory) -> None:
    first = recorder.enrolled()
    second = renewed(recorder, first)
    recorder.decide(recorder.used(second.serial))
    recorder.wait_until_due(second)
    decision = recorder.decide(recorder.renew(first, number=4))
    assert (decision.verdict.rule, kinds(decision)) == ("lineage-clone", ["Alarm"])
    assert recorder.rule(recorder.renew(recorder.row(second.serial), number=5)) == "lineage-stopped"
    assert recorder.row(second.serial).status == "active"  # revoking is policy
    assert not recorder.rule(recorder.revoke(second.serial))


@pytest.mark.parametrize("lifetime_s", [7200, 600, 61, 60])
def test_before_half_of_its_life_a_certificate_is_not_renewed(
    recorder: RecorderInMemory, lifetime_s: int
) -> None:
    first = recorder.enrolled(lifetime_s=lifetime_s)
    # Of its validity, which begins a minute before its issuance (BACKDATE in ca/certificates/profile.py).
    half_s = (lifetime_s - 60) // 2
    if half_s:
        recorder.wait(half_s - 1)
        refused = recorder.decide(recorder.renew(first)).verdict
        assert (refused.decision, refused.rule) == ("denied", "renewal-early")
        assert "can be renewed in 1 s" in refused.reason
        assert recorder.states() == {first.serial: "active"}
        recorder.wait(1)
    assert not recorder.rule(recorder.renew(first))


@pytest.mark.parametrize("jitter", [0.0, 1.0])
@pytest.mark.parametrize("lifetime_s", [60, 600, 7200, 86400])
def test_a_manager_never_comes_early(recorder: RecorderInMemory, lifetime_s: int, jitter: float) -> None:
    row = recorder.enrolled(subsystem="certificate-manager", capabilities=(), lifetime_s=lifetime_s)
    window = moment_of(row.not_before), moment_of(row.not_after)
    asked = lifecycle.Life(state=lifecycle.AgentState.REQUESTED, due=None)
    event = lifecycle.SignedActive(not_before=window[0], not_after=window[1])
    life, _ = lifecycle.step(asked, event, now=moment_of(recorder.now_s), jitter=jitter)
    assert life.due is not None
    recorder.wait(max(0, int(life.due.timestamp()) - recorder.now_s))
    assert not recorder.rule(recorder.renew(row))


def test_the_next_generation_is_not_renewed_early_either(recorder: RecorderInMemory) -> None:
    second = renewed(recorder, recorder.enrolled())
    recorder.decide(recorder.used(second.serial))
    assert recorder.rule(recorder.renew(recorder.row(second.serial), number=3)) == "renewal-early"


def test_a_changed_policy_changes_a_certificate_early_but_once(recorder: RecorderInMemory) -> None:
    first = recorder.enrolled(subsystem="node-controller", capabilities=("ledger:read",), lifetime_s=86400)
    assert recorder.rule(recorder.renew(first)) == "renewal-early"
    recorder.grants["node-controller"] = frozenset()
    narrowed = recorder.renew(first, capabilities=())
    assert not recorder.rule(narrowed)
    recorder.decide(recorder.used(narrowed.certificate.serial))
    second = recorder.row(narrowed.certificate.serial)
    assert recorder.rule(recorder.renew(second, capabilities=(), number=3)) == "renewal-early"
    recorder.grants["node-controller"] = frozenset({"ledger:read"})
    assert not recorder.rule(recorder.renew(second, number=4))


def test_a_proven_bootstrap_certificate_that_carries_nothing_renews_at_once(
    recorder: RecorderInMemory,
) -> None:
    pending = recorder.enrolled(bootstrap=True, capabilities=(), address="192.0.2.1:7443")
    recorder.decide(Activate(serial=pending.serial, means="dial-back"))
    item = recorder.renew(recorder.row(pending.serial))
    assert not recorder.rule(item)
    recorder.decide(recorder.used(item.certificate.serial))
    second = recorder.row(item.certificate.serial)
    assert recorder.rule(recorder.renew(second, number=3)) == "renewal-early"


def lost_answers(recorder: RecorderInMemory, row: CertificateRow, wanted: int, *, pause_s: int = 0) -> None:
    """Renew with another key each time; no successor is ever used."""
    for number in range(wanted):
        item = recorder.renew(row, number=100 + number)
        assert not recorder.rule(item)
        recorder.wait(pause_s)


def test_answers_are_lost_ten_times_an_hour_and_no_more(recorder: RecorderInMemory) -> None:
    first = recorder.enrolled(subsystem="node-controller", capabilities=(), lifetime_s=86400)
    recorder.wait_until_due(first)
    lost_answers(recorder, first, RENEWALS, pause_s=60)
    before = recorder.states()
    refused = recorder.decide(recorder.renew(first, number=3)).verdict
    assert (refused.rule, "again in 3000 s" in refused.reason) == ("renewal-pace", True)
    assert recorder.states() == before
    recorder.wait(2999)
    assert recorder.rule(recorder.renew(first, number=3)) == "renewal-pace"
    recorder.wait(1)
    assert not recorder.rule(recorder.renew(first, number=3))
    assert recorder.rule(recorder.renew(first, number=4)) == "renewal-pace"
    recorder.wait(60)
    assert not recorder.rule(recorder.renew(first, number=4))


def test_the_pace_of_a_short_life_is_of_one_lifetime(recorder: RecorderInMemory) -> None:
    first = recorder.enrolled(lifetime_s=600)
    recorder.wait(270)
    lost_answers(recorder, first, RENEWALS)
    assert "in 600 s" in recorder.decide(recorder.renew(first, number=3)).verdict.reason


def test_the_pace_is_of_one_lineage(recorder: RecorderInMemory) -> None:
    first, other = recorder.enrolled(), recorder.enrolled()
    recorder.wait_until_due(first)
    lost_answers(recorder, first, RENEWALS)
    assert recorder.rule(recorder.renew(first, number=3)) == "renewal-pace"
    assert not recorder.rule(recorder.renew(other, number=3))


def test_the_same_request_again_is_no_renewal_more(recorder: RecorderInMemory) -> None:
    first = recorder.enrolled()
    recorder.wait_until_due(first)
    lost_answers(recorder, first, RENEWALS)
    last = recorder.decide(recorder.renew(first, number=100 + RENEWALS - 1))
    assert isinstance(last.item, Resign)


def test_a_manager_whose_answers_never_arrive_keeps_the_pace(recorder: RecorderInMemory) -> None:
    """It repeats one request until it is answered; its certificate is another one once in RETRY_S."""
    first = recorder.enrolled(subsystem="node-controller", capabilities=(), lifetime_s=86400)
    recorder.wait_until_due(first)
    for _ in range(3 * 60):
        item = recorder.renew(first, number=2)
        # Signed, so that the same one can be given again.
        assert recorder.rule(item) == ""
        if item.certificate.serial in recorder.rows.certificates:
            row = recorder.row(item.certificate.serial)
            recorder.rows.certificates[row.serial] = replace(row, signature=b"signature")
        recorder.wait(60)


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
def test_a_lineage_keeps_what_it_is(recorder: RecorderInMemory, changed: dict[str, Any], rule: str) -> None:
    first = recorder.enrolled()
    assert recorder.rule(recorder.renew(first, **changed)) == rule
    assert recorder.states() == {first.serial: "active"}


def test_expired_pending_and_revoked_certificates_do_not_renew(recorder: RecorderInMemory) -> None:
    pending = bootstrapped(recorder)
    assert recorder.rule(recorder.renew(pending)) == "certificate-not-active"
    active = recorder.enrolled()
    recorder.wait(7201)
    assert recorder.rule(recorder.renew(active)) == "certificate-not-active"
    recorder.decide(recorder.revoke(active.serial))
    assert recorder.rule(recorder.renew(recorder.row(active.serial))) == "certificate-not-active"


def test_after_the_dial_back_the_renewal_carries_what_the_token_bought(recorder: RecorderInMemory) -> None:
    pending = bootstrapped(recorder)
    assert pending.capabilities == ""
    assert not recorder.rule(Activate(serial=pending.serial, means="dial-back"))
    active = recorder.row(pending.serial)
    assert (active.status, active.deadline, active.activated_by) == ("active", None, "dial-back")
    at_once = recorder.renew(active)
    assert not recorder.rule(at_once)
    assert recorder.row(at_once.certificate.serial).capabilities == "ledger:read"


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
    recorder: RecorderInMemory, address: str, after_s: int, rule: str
) -> None:
    row = bootstrapped(recorder, address)
    recorder.wait(after_s)
    expected = "proof-late" if address and after_s >= 600 else rule
    assert recorder.rule(Activate(serial=row.serial, means="self")) == expected


def test_use_does_not_prove_a_bootstrap_certificate_nor_a_dial_back_a_renewal(
    recorder: RecorderInMemory,
) -> None:
    assert recorder.rule(recorder.used(bootstrapped(recorder).serial)) == "proof-kind"
    second = renewed(recorder, recorder.enrolled())
    assert recorder.rule(Activate(serial=second.serial, means="dial-back")) == "proof-kind"
    assert recorder.rule(recorder.confirm(second)) == "proof-kind"


def test_a_certificate_without_its_signature_has_no_fingerprint_to_confirm(
    recorder: RecorderInMemory,
) -> None:
    row = bootstrapped(recorder)
    item = recorder.confirm(row)
    recorder.rows.certificates[row.serial] = replace(recorder.row(row.serial), signature=None)
    assert recorder.rule(item) == "certificate-unsigned"
    assert recorder.row(row.serial).status == "pending"


def test_an_operator_confirms_by_fingerprint(recorder: RecorderInMemory) -> None:
    row = bootstrapped(recorder)
    assert recorder.rule(recorder.confirm(row, fingerprint=b"\x00" * 32)) == "fingerprint-differs"
    assert recorder.rule(recorder.confirm(row, node="n2.nodes.shop.example")) == "fingerprint-node"
    assert not recorder.rule(recorder.confirm(row))
    assert recorder.row(row.serial).activated_by == "operator"


def test_not_proven_in_time_means_revoked(recorder: RecorderInMemory) -> None:
    row = bootstrapped(recorder)
    recorder.wait(599)
    assert recorder.rule(ExpirePending(serial=row.serial)) == "certificate-not-pending"
    recorder.wait(1)
    assert recorder.rule(Activate(serial=row.serial, means="dial-back")) == "proof-late"
    assert not recorder.rule(ExpirePending(serial=row.serial))
    assert recorder.row(row.serial).status == "revoked"


def test_policy_that_was_narrowed_narrows_the_next_generation(recorder: RecorderInMemory) -> None:
    first = recorder.enrolled()
    recorder.grants["component-harness"] = frozenset()
    assert recorder.rule(recorder.renew(first)) == "lineage-capabilities"
    assert not recorder.rule(recorder.renew(first, capabilities=()))


WAITS_S = {"wait": 1500, "half": 3570}
STEPS = st.lists(
    st.sampled_from(["renew", "renew-old", "use", "wait", "half", "late", "revoke", "redeem-again"]),
    max_size=14,
)


@given(steps=STEPS)
@example(steps=["half", "renew", "use", "renew-old", "half", "renew"])
@example(steps=["half", "renew", "renew", "use", "half", "renew", "use"])
@example(steps=["wait", "wait", "wait", "wait", "renew", "wait", "use"])  # used after the first one's end
def test_a_lineage_has_at_most_one_active_and_one_pending_and_no_end_that_is_not_an_end(
    steps: list[str],
) -> None:
    """A model of any life: whatever happens, the states stay within the table and each can still be left or
    is final.
    """
    recorder = RecorderInMemory()
    first = recorder.enrolled()
    numbers = iter(range(2, 100))
    for step in steps:
        rows = sorted(recorder.rows.certificates.values(), key=lambda row: row.generation)
        match step:
            case "renew":
                active = next((row for row in rows if row.status == "active"), first)
                recorder.decide(recorder.renew(active, number=next(numbers)))
            case "renew-old":
                recorder.decide(recorder.renew(rows[0], number=next(numbers)))
            case "use":
                recorder.decide(recorder.used(rows[-1].serial))
            case "wait" | "half":
                recorder.wait(WAITS_S[step])
            case "late":
                recorder.decide(ExpirePending(serial=rows[-1].serial))
            case "revoke":
                recorder.decide(recorder.revoke(rows[-1].serial))
            case _:
                recorder.decide(recorder.redeem(spki_digest=key(next(numbers))))
        _check(recorder)


def _check(recorder: RecorderInMemory) -> None:
    rows = list(recorder.rows.certificates.values())
    # What has expired keeps the state that it had: nothing loads it any more.
    states = [row.status for row in rows if row.not_after >= recorder.now_s]
    assert states.count("active") <= 1
    assert states.count("pending") <= 1
    assert len({row.generation for row in rows}) == len(rows)
    revoked = {row.serial for row in rows if row.status == "revoked"}
    assert [step.serial for step in recorder.rows.revocations].__len__() == len(revoked)
    for row in rows:
        assert (row.deadline is not None) == (row.status == "pending")
        assert set(row.capabilities.split()) <= set(row.granted.split())
        if row.status != "revoked":  # whatever is not ended can be ended
            assert not _copy(recorder).rule(recorder.revoke(row.serial))


def _copy(recorder: RecorderInMemory) -> RecorderInMemory:
    copy = RecorderInMemory()
    copy.rows.now_s = recorder.now_s
    for row in recorder.rows.certificates.values():
        copy.rows.load_certificate(replace(row))
    return copy
