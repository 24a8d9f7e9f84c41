"""A judge's memory: it answers as its policies do, and remembers an answer under all that was asked."""

from __future__ import annotations

from dataclasses import replace

import pytest

from credsvc.policy.cedar import AgentEntity, PolicySet
from credsvc.policy.decision import Denial, Grant, Undecided
from credsvc.policy.judge import Judge
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
