"""The lint sees every difference between plan and bytes, one at a time."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ca.certificates.lint import LintError, lint, lint_by_reading
from ca.certificates.profile import LeafPlan, build_tbs
from ca.certificates.shards import ShardNumber
from ostiary.capabilities import parse_capabilities
from ostiary.certificate import ED25519, PublicKey, spki_der
from ostiary.identity import parse_endpoint, parse_subsystem
from tests.support.ca_authority import RESPONDER_KEY, AuthorityForTests
from tests.support.certificates import HOST, IDENTITY
from tests.support.independent_certificates import plans, tbs_by_pyca

CA = AuthorityForTests()
PLAN = CA.plan()
TBS = build_tbs(CA.profile, PLAN)


def other(**changes: Any) -> Any:
    return dataclasses.replace(IDENTITY, **changes)


PLANS: dict[str, Any] = {
    "subsystem": {"identity": other(subsystem=parse_subsystem("other"))},
    "endpoints": {"identity": other(endpoints=(parse_endpoint(f"https+tcp://{HOST}:1"),))},
    "capabilities": {"identity": other(capabilities=parse_capabilities(["credential:use"]))},
    "capabilities of a pending one": {"pending": True},
    "node_name_in_san": {"identity": other(node_name_in_san=True)},
    "serial_number": {"serial_number": 8},
    "public_key": {"spki_der": spki_der(RESPONDER_KEY.public_key())},
    "not_before": {"not_before": PLAN.not_before + timedelta(seconds=1)},
    "not_after": {"not_after": PLAN.not_after - timedelta(seconds=1)},
    "cRLDistributionPoints": {"shard": ShardNumber(4)},
}
PROFILES: dict[str, Any] = {
    "issuer": {"issuer_subject_der": CA.root.subject.public_bytes()},
    "signature_algorithm": {"signature_algorithm_der": ED25519},
    "authorityInfoAccess": {"ocsp_url": "http://elsewhere.example/ocsp"},
    "authorityKeyIdentifier": {"issuer_key_identifier": bytes(20)},
}


def test_what_was_planned_passes() -> None:
    lint(TBS, CA.profile, PLAN)
    pending = CA.plan(pending=True)
    lint(build_tbs(CA.profile, pending), CA.profile, pending)


def test_what_was_planned_is_not_even_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading passes it, too, but costs nine times as much: a template that lost the profile would not be
    noticed else.
    """
    monkeypatch.delattr("ca.certificates.lint.lint_by_reading")
    for plan in (PLAN, CA.plan(pending=True), CA.plan(other(endpoints=(), capabilities=frozenset()))):
        lint(build_tbs(CA.profile, plan), CA.profile, plan)
    with pytest.raises(NameError):
        lint(TBS, CA.profile, dataclasses.replace(PLAN, serial_number=8))


@given(plans(CA))
def test_comparing_and_reading_pass_the_same_plans(planned: tuple[LeafPlan, PublicKey]) -> None:
    plan, key = planned
    for tbs in (build_tbs(CA.profile, plan), tbs_by_pyca(CA, plan, key)):
        lint(tbs, CA.profile, plan)
        lint_by_reading(tbs, CA.profile, plan)


@pytest.mark.parametrize("field", PLANS)
def test_a_difference_from_the_plan_is_seen(field: str) -> None:
    with pytest.raises(LintError) as fault:
        lint(TBS, CA.profile, dataclasses.replace(PLAN, **PLANS[field]))
    assert fault.value.field == field.partition(" ")[0]


@pytest.mark.parametrize("field", PROFILES)
def test_a_difference_from_the_profile_is_seen(field: str) -> None:
    with pytest.raises(LintError) as fault:
        lint(TBS, dataclasses.replace(CA.profile, **PROFILES[field]), PLAN)
    assert fault.value.field == field


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
@given(st.integers(0, len(TBS) - 1), st.integers(1, 255))
@example(TBS.index(PLAN.serial_number.to_bytes(20, "big")), 0x80)  # negative
@example(
    TBS.index(bytes.fromhex("0403020780")) + 4, 0x01
)  # an unused bit of the key usage, which readers skip
@example(TBS.index(bytes.fromhex("03420004")) + 3, 0x02)  # the same point in X9.62's hybrid form
def test_no_changed_octet_passes(position: int, change: int) -> None:
    broken = bytearray(TBS)
    broken[position] ^= change
    with pytest.raises(LintError):
        lint(bytes(broken), CA.profile, PLAN)
