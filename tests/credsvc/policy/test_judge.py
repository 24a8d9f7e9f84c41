"""A judge's memory: it answers as its policies do, and remembers an answer under what its rules read."""

from __future__ import annotations

from dataclasses import replace

import pytest

from credsvc.policy import judge as judge_module
from credsvc.policy.cedar import AgentEntity, PolicySet
from credsvc.policy.decision import Denial, Grant, Undecided
from credsvc.policy.judge import MAX_CONTEXT_CHARS, Judge
from tests.support.credentials_front import AGENT, POLICY, subject

ACTION = "aws-sigv4/sign"
CONTEXT = {
    "method": "GET",
    "host": "b.s3.amazonaws.com",
    "path": "/",
    "region": "eu-north-1",
    "service": "s3",
    "payload": "UNSIGNED-PAYLOAD",
}
FRESH = '@id("fresh") forbid(principal, action, resource) when { principal.revocation_age > 60 };'
CREDENTIAL = subject().credential.entity


@pytest.fixture
def judge() -> Judge:
    return subject(policy=POLICY + FRESH).judge


def test_a_question_asked_again_is_answered_from_memory(
    judge: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = judge.decide(AGENT, ACTION, CREDENTIAL, CONTEXT)
    assert first == Grant(rule="components-read-billing")

    def fail(*_: object) -> Grant | Denial:
        raise AssertionError("it was asked again")

    monkeypatch.setattr(PolicySet, "decide_use", fail)
    assert judge.decide(AGENT, ACTION, CREDENTIAL, dict(CONTEXT)) is first


@pytest.mark.parametrize(
    ("agent", "context"),
    [
        (AGENT, {**CONTEXT, "method": "PUT"}),
        (replace(AGENT, revocation_age_s=61), CONTEXT),
        (replace(AGENT, active=False), CONTEXT),
        (replace(AGENT, capabilities=frozenset()), CONTEXT),
        (replace(AGENT, subsystem="other"), CONTEXT),
    ],
)
def test_what_differs_in_one_respect_is_another_question(
    judge: Judge, agent: AgentEntity, context: dict[str, str | int]
) -> None:
    assert isinstance(judge.decide(AGENT, ACTION, CREDENTIAL, CONTEXT), Grant)
    assert isinstance(judge.decide(agent, ACTION, CREDENTIAL, context), Denial)


def test_another_credential_is_another_question(judge: Judge) -> None:
    judge.decide(AGENT, ACTION, CREDENTIAL, CONTEXT)
    assert isinstance(judge.decide(AGENT, ACTION, replace(CREDENTIAL, labels=()), CONTEXT), Denial)


@pytest.mark.parametrize(
    ("agent", "context"),
    [
        (AGENT, {**CONTEXT, "path": "/another", "host": "another"}),
        (replace(AGENT, revocation_age_s=7), CONTEXT),
        (replace(AGENT, agent="another", node="another"), CONTEXT),
    ],
)
def test_what_differs_in_what_no_rule_reads_is_the_same_question(
    agent: AgentEntity, context: dict[str, str | int]
) -> None:
    judge = subject(policy=POLICY).judge
    first = judge.decide(AGENT, ACTION, CREDENTIAL, CONTEXT)
    assert judge.decide(agent, ACTION, CREDENTIAL, context) is first
    preview = judge.preview(AGENT, ACTION, CREDENTIAL)
    assert judge.preview(agent, ACTION, replace(CREDENTIAL, name="another", owner="another")) is preview


@pytest.mark.parametrize(
    "misfit", [{"path": 1}, {"more": "x"}, {"payload": 2**63}], ids=["type", "name", "number"]
)
def test_a_context_that_does_not_fit_is_another_question_though_no_rule_reads_the_misfit(
    misfit: dict[str, str | int],
) -> None:
    judge = subject(policy=POLICY).judge
    assert isinstance(judge.decide(AGENT, ACTION, CREDENTIAL, CONTEXT), Grant)
    refused = judge.decide(AGENT, ACTION, CREDENTIAL, {**CONTEXT, **misfit})
    assert isinstance(refused, Denial)
    assert refused.rule == "policy-error"


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge_module, "MAX_REMEMBERED", 2)
    judge = subject(policy=POLICY).judge

    def decide(method: str) -> Grant | Denial:
        return judge.decide(AGENT, ACTION, CREDENTIAL, {**CONTEXT, "method": method})

    first, second = decide("GET"), decide("PUT")
    assert (decide("GET"), decide("PUT")) == (first, second)
    assert (decide("GET") is first, decide("PUT") is second) == (True, True)
    decide("POST")  # in the place of the oldest
    assert decide("PUT") is second
    assert decide("GET") is not first
    long = "G" * (MAX_CONTEXT_CHARS + 1)
    assert decide(long) is not decide(long)


def test_two_judges_share_no_answers() -> None:
    permits, forbids = subject().judge, subject(policy="").judge
    assert isinstance(permits.decide(AGENT, ACTION, CREDENTIAL, CONTEXT), Grant)
    assert isinstance(forbids.decide(AGENT, ACTION, CREDENTIAL, CONTEXT), Denial)


def test_a_preview_and_a_read_answer_as_the_policies_do(judge: Judge) -> None:
    assert isinstance(judge.preview(AGENT, ACTION, CREDENTIAL), Undecided)
    assert isinstance(judge.preview(replace(AGENT, active=False), ACTION, CREDENTIAL), Denial)
    reader = replace(AGENT, capabilities=frozenset({"ledger:read"}))
    assert isinstance(judge.may_read(reader, "shop.example/credentials"), Grant)
    assert isinstance(judge.may_read(AGENT, "shop.example/credentials"), Denial)
    assert subject(guessable=True).judge.is_guessable(ACTION)
    assert not judge.is_guessable(ACTION)
