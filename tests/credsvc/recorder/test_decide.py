"""The decisions alone, over rows in memory: each kind of act has one, and a denied act changes nothing."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import msgspec
import pytest

from credsvc.items import ADMIN, FRONT, INTERNAL, DeleteCredential, DisableCredential
from credsvc.recorder import decide as decisions
from credsvc.recorder.decide import decide_item
from credsvc.store.rows import CredentialRow, ModuleRow, Rows
from ostiary.work.item import Item
from ostiary.work.reports import Refuse
from tests.support.credential_decisions import (
    APPROVE,
    F1,
    F2,
    M1,
    M2,
    OPERATOR,
    P1,
    PEER,
    POLICY,
    PROPOSE,
    PUT,
    SEALED,
    USE,
)

DISABLE = DisableCredential(operator=OPERATOR, credential="grid")
DELETE = DeleteCredential(operator=OPERATOR, credential="grid")


def rows(*, state: Any = "active", sealed: bytes | None = SEALED, policy: str | None = P1) -> Rows:
    """One module, one credential and a policy, as an earlier batch left them."""
    module = ModuleRow(name="gogrid", module_digest=M1, manifest_digest=F1, manifest=b"manifest", state=state)
    credential = CredentialRow(name="grid", version=1, module="gogrid", disabled=False, sealed=sealed)
    return Rows(credentials={"grid": credential}, modules={module.key: module}, policy_digest=policy)


def test_each_kind_that_may_be_asked_has_a_decision() -> None:
    assert set(decisions._DECISIONS) == {*FRONT, *ADMIN, *INTERNAL}


@pytest.mark.parametrize(
    ("item", "attachment"),
    [
        (USE, SEALED),
        (msgspec.structs.replace(PUT, version=2), b""),
        (DISABLE, None),
        (DELETE, None),
        (POLICY, None),
        (
            msgspec.structs.replace(
                PROPOSE, source=b"other", module_digest=M2, manifest=b"second", manifest_digest=F2
            ),
            None,
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_rides_beside_an_authorized_act_to_the_keyholder(item: Item, attachment: bytes | None) -> None:
    """None where the keyholder has no part: then nothing is sent to it."""
    verdict, found = decide_item(rows(), item)
    assert (verdict.decision, found) == ("authorized", attachment)


def test_an_approval_brings_the_manifest_to_the_keyholder() -> None:
    verdict, attachment = decide_item(rows(state="proposed"), APPROVE)
    assert (verdict.decision, attachment) == ("authorized", b"manifest")


@pytest.mark.parametrize(
    ("item", "rule"),
    [
        (msgspec.structs.replace(USE, version=7), "stale-credential"),
        (msgspec.structs.replace(PUT, version=7), "stale-credential"),
        (msgspec.structs.replace(DISABLE, credential="none"), "credential-unknown"),
        (msgspec.structs.replace(DELETE, credential="none"), "credential-unknown"),
        (PROPOSE, "module-known"),
        (APPROVE, "module-active"),
        (msgspec.structs.replace(APPROVE, module_digest=M2), "module-unknown"),
        (msgspec.structs.replace(POLICY, policy_digest=M2), "policy-digest"),
        (Refuse(by=PEER, act="use", target="grid", rule="default-deny", reason="no"), "default-deny"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_a_denied_act_changes_no_row_and_reaches_no_keyholder(item: Item, rule: str) -> None:
    before = rows()
    after = deepcopy(before)
    verdict, attachment = decide_item(after, item)
    assert (verdict.decision, verdict.rule, attachment) == ("denied", rule, None)
    assert after == before


def test_without_a_policy_no_digest_fits() -> None:
    """Not even the empty one, which a front has before it has read any."""
    verdict, _ = decide_item(rows(policy=None), msgspec.structs.replace(USE, policy_digest=""))
    assert verdict.rule == "stale-policy"


@pytest.mark.parametrize("change", [DISABLE, DELETE])
def test_each_change_of_a_credential_takes_a_version(change: Item) -> None:
    after = rows()
    decide_item(after, change)
    assert after.credentials["grid"].version == 2
    verdict, _ = decide_item(after, msgspec.structs.replace(PUT, version=2))
    assert verdict.rule == "stale-credential"
