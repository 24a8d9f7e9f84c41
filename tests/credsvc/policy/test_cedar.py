"""Policy in Cedar: deny by default, guards that no rule lifts, the deciding rule by its id."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from credsvc.policy.cedar import AgentEntity, CredentialEntity, PolicySet
from credsvc.policy.decision import DEFAULT_DENY, GUESSABLE_UNNAMED, Denial, Grant, Undecided
from credsvc.policy.schema import PolicySchema
from ostiary.errors import BadInput

TEXT = """\
entity SubSystem, Node, Label, Module, Ledger;
entity Agent in [SubSystem, Node] { capabilities: Set<String>, active: Bool, revocation_age: Long };
entity Credential in [Label] { module: Module, owner: SubSystem, guessable: Bool };
action use appliesTo { principal: Agent, resource: Credential, context: {} };
action read appliesTo { principal: Agent, resource: Ledger, context: {} };
action "aws-sigv4/sign" in [use] appliesTo {
  principal: Agent, resource: Credential, context: { "service": String, "method": String }
};
"""
SCHEMA = PolicySchema(text=TEXT, guessable=frozenset())
GUESSABLE = PolicySchema(text=TEXT, guessable=frozenset({"aws-sigv4/sign"}))
PERMIT = """@id("components-read-billing")
permit(principal in SubSystem::"component", action == Action::"aws-sigv4/sign", resource in Label::"billing")
when { context.service == "s3" && context.method == "GET" };
"""
ACTION = "aws-sigv4/sign"
CONTEXT = {"service": "s3", "method": "GET"}


def agent(
    subsystem: str = "component", capabilities: tuple[str, ...] = ("credential:use",), *, active: bool = True
) -> AgentEntity:
    return AgentEntity(
        agent="0b0e7d9c-5c80-4f3e-9d4e-1f8d8f6f0a01",
        subsystem=subsystem,
        node="n1.shop.example",
        capabilities=frozenset(capabilities),
        active=active,
        revocation_age_s=0,
    )


def credential(*labels: str) -> CredentialEntity:
    return CredentialEntity(
        name="billing-reader",
        module="aws-sigv4",
        owner="component",
        labels=labels or ("billing",),
        guessable=False,
    )


def test_a_permit_grants_and_is_named() -> None:
    policies = PolicySet(PERMIT, SCHEMA)
    assert policies.decide_use(agent(), ACTION, credential(), CONTEXT) == Grant(
        rule="components-read-billing"
    )


@pytest.mark.parametrize(
    ("who", "what", "context"),
    [
        (agent("node-controller"), credential(), CONTEXT),
        (agent(), credential("hr"), CONTEXT),
        (agent(), credential(), {**CONTEXT, "method": "DELETE"}),
    ],
)
def test_what_no_rule_permits_is_denied(
    who: AgentEntity, what: CredentialEntity, context: dict[str, str | int]
) -> None:
    decision = PolicySet(PERMIT, SCHEMA).decide_use(who, ACTION, what, context)
    assert isinstance(decision, Denial)
    assert decision.rule == DEFAULT_DENY


@pytest.mark.parametrize("who", [agent(capabilities=()), agent(active=False)])
def test_no_permit_lifts_the_guard(who: AgentEntity) -> None:
    policies = PolicySet('@id("all") permit(principal, action, resource);', SCHEMA)
    decision = policies.decide_use(who, ACTION, credential(), CONTEXT)
    assert isinstance(decision, Denial)
    assert decision.rule == "use-needs-capability"


@pytest.mark.parametrize(
    "scope", ["action", 'action in Action::"use"', 'action in [Action::"use", Action::"read"]']
)
def test_what_lets_passwords_be_tried_is_not_allowed_in_passing(scope: str) -> None:
    text = f'@id("all") permit(principal, {scope}, resource);'
    assert PolicySet(text, SCHEMA).decide_use(agent(), ACTION, credential(), CONTEXT) == Grant(rule="all")
    policies = PolicySet(text, GUESSABLE)
    decision = policies.decide_use(agent(), ACTION, credential(), CONTEXT)
    assert isinstance(decision, Denial)
    assert decision.rule == GUESSABLE_UNNAMED
    assert policies.is_guessable(ACTION)
    assert not policies.is_guessable("read")


@pytest.mark.parametrize(
    "scope",
    [
        'action == Action::"aws-sigv4/sign"',
        'action in Action::"aws-sigv4/sign"',
        'action in [Action::"use", Action::"aws-sigv4/sign"]',
    ],
)
def test_what_lets_passwords_be_tried_is_allowed_by_its_name(scope: str) -> None:
    text = (
        f'@id("all") permit(principal, action, resource);@id("named") permit(principal, {scope}, resource);'
    )
    granted = PolicySet(text, GUESSABLE).decide_use(agent(), ACTION, credential(), CONTEXT)
    assert granted == Grant(rule="named")
    forbidden = text + '@id("no") forbid(principal, action, resource);'
    decision = PolicySet(forbidden, GUESSABLE).decide_use(agent(), ACTION, credential(), CONTEXT)
    assert isinstance(decision, Denial)
    assert decision.rule == "no"


def test_a_preview_refuses_what_no_context_could_allow_and_decides_nothing_else() -> None:
    policies = PolicySet(PERMIT, SCHEMA)
    assert isinstance(policies.preview_use(agent(), ACTION, credential()), Undecided)
    assert isinstance(policies.preview_use(agent("other"), ACTION, credential()), Denial)
    refused = policies.preview_use(agent(capabilities=()), ACTION, credential())
    assert isinstance(refused, Denial)


def test_a_preview_names_the_rule_that_forbids_and_not_one_that_permits() -> None:
    text = '@id("all") permit(principal, action, resource);@id("no") forbid(principal, action, resource);'
    assert preview_denial(text, SCHEMA) == preview_denial(text, GUESSABLE) == "no"


def test_a_preview_refuses_what_lets_passwords_be_tried_and_nobody_permits_by_name() -> None:
    assert preview_denial('@id("all") permit(principal, action, resource);', GUESSABLE) == GUESSABLE_UNNAMED
    assert isinstance(PolicySet(PERMIT, GUESSABLE).preview_use(agent(), ACTION, credential()), Undecided)


def preview_denial(text: str, schema: PolicySchema) -> str:
    decision = PolicySet(text, schema).preview_use(agent(), ACTION, credential())
    assert isinstance(decision, Denial)
    return decision.rule


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("permit(principal, action, resource);", "@id"),
        (PERMIT + PERMIT, "@id"),
        (PERMIT.replace("context.service", "context.servce"), "servce"),
        (PERMIT.replace("permit", "prmit"), "parse"),
        (PERMIT.replace("aws-sigv4/sign", "aws-sigv4/sing"), "sing"),
    ],
)
def test_what_does_not_validate_is_refused_at_load(text: str, told: str) -> None:
    with pytest.raises(BadInput, match=told):
        PolicySet(text, SCHEMA)


@pytest.mark.parametrize("name", ["plain", 'with "quotes"', "back\\slash", "ünïcode"])
def test_names_mean_themselves_in_decisions_and_previews(name: str) -> None:
    quoted = json.dumps(name, ensure_ascii=False)
    text = f'@id("one") permit(principal, action, resource == Credential::{quoted});'
    policies = PolicySet(text, SCHEMA)
    named, other = replace(credential(), name=name), replace(credential(), name=f"{name} ")
    assert policies.decide_use(agent(), ACTION, named, CONTEXT) == Grant(rule="one")
    assert isinstance(policies.decide_use(agent(), ACTION, other, CONTEXT), Denial)
    assert isinstance(policies.preview_use(agent(), ACTION, named), Undecided)
    assert isinstance(policies.preview_use(agent(), ACTION, other), Denial)


def test_reading_a_ledger_takes_the_capability() -> None:
    policies = PolicySet("", SCHEMA)
    assert isinstance(policies.decide_read(agent(capabilities=("ledger:read",)), "shop.example/ca"), Grant)
    assert isinstance(policies.decide_read(agent(), "shop.example/ca"), Denial)
