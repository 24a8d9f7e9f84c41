"""The verbs over policies: validated against the active modules before they are recorded."""

from __future__ import annotations

import hashlib

import pytest

from credsvc.items import SetPolicy
from ostiary.errors import BadInput
from tests.support.credential_operator import OperatorVerbs

POLICY = '@id("grid") permit(principal, action == Action::"gogrid/sign", resource);'


def test_a_policy_set_is_recorded_with_its_text_and_digest(operator: OperatorVerbs) -> None:
    operator.activate("gogrid")
    answer = operator.call("policy.set", policy=POLICY)
    item = operator.items[-1]
    assert isinstance(item, SetPolicy)
    assert (item.policy, item.policy_digest) == (POLICY, hashlib.sha256(POLICY.encode()).hexdigest())
    assert (answer["policy"], answer["rules"][-1]) == (item.policy_digest, "grid")


@pytest.mark.parametrize("verb", ["policy.set", "policy.validate"])
@pytest.mark.parametrize("text", ["permit(", POLICY.replace("gogrid", "none")], ids=["syntax", "no-module"])
def test_policies_that_do_not_fit_the_active_modules_are_refused(
    operator: OperatorVerbs, verb: str, text: str
) -> None:
    operator.activate("gogrid")
    recorded = len(operator.items)
    with pytest.raises(BadInput) as refused:
        operator.call(verb, policy=text)
    assert refused.value.field == "policy"
    assert len(operator.items) == recorded


def test_validating_records_nothing(operator: OperatorVerbs) -> None:
    operator.activate("gogrid")
    recorded = len(operator.items)
    assert operator.call("policy.validate", policy=POLICY)["rules"][-1] == "grid"
    assert len(operator.items) == recorded
    assert operator.call("policy.show")["policy"] == ""


def test_what_is_shown_is_what_was_set_last_with_its_schema(operator: OperatorVerbs) -> None:
    operator.activate("gogrid")
    for text in (POLICY, "", POLICY):
        operator.call("policy.set", policy=text)
        assert operator.call("policy.show")["policy"] == text
    shown = operator.call("policy.show")
    assert "gogrid/sign" in shown["schema"]
    # A human chose GoGrid's shared secret: what is released lets it be guessed.
    assert shown["guessable"] == ["gogrid/sign"]
