"""Whatever rules say and whatever was asked before: a judge answers as its policies do without a memory."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st

from credsvc.policy.cedar import AgentEntity, CredentialEntity, PolicySet
from credsvc.policy.judge import Judge
from credsvc.policy.schema import PolicySchema

SCHEMA = PolicySchema(
    text="""\
entity SubSystem, Node, Label, Module, Ledger;
entity Agent in [SubSystem, Node] { capabilities: Set<String>, active: Bool, revocation_age: Long };
entity Credential in [Label] { module: Module, owner: SubSystem, guessable: Bool };
action use appliesTo { principal: Agent, resource: Credential, context: {} };
action read appliesTo { principal: Agent, resource: Ledger, context: {} };
action "m/a" in [use] appliesTo {
  principal: Agent, resource: Credential, context: { "host": String, "path": String, "size": Long }
};
action "m/b" in [use] appliesTo {
  principal: Agent, resource: Credential, context: { "host": String, "path": String, "size": Long }
};
""",
    guessable=frozenset({"m/b"}),
)
ACTIONS = ("m/a", "m/b")

texts = st.sampled_from(["context.host", "context.path", "context.path", '"x"'])
# The largest numbers overflow: a rule that fails to evaluate denies.
numbers = st.recursive(
    st.one_of(
        st.sampled_from(["context.size", "principal.revocation_age"]),
        st.sampled_from(["0", "1", str(2**63 - 1)]),
    ),
    lambda inner: st.tuples(inner, st.sampled_from("+-*"), inner).map(lambda parts: f"({' '.join(parts)})"),
    max_leaves=3,
)
ABOUT_AGENTS = [
    "true",
    "principal.active",
    'principal.capabilities.contains("x")',
    'principal.capabilities.containsAny(["x", "y"])',
    "principal.capabilities.isEmpty()",
    "principal has active",
    "principal.revocation_age == 1",
    'principal == Agent::"x"',
    'principal is Agent in SubSystem::"x"',
    'principal in [SubSystem::"x", SubSystem::"y"]',
    'principal in Node::"x"',
]
ABOUT_USES = [
    'resource in Label::"x"',
    'resource in [Label::"x", Label::"y"]',
    'resource == Credential::"x"',
    "resource.guessable",
    'resource.owner == SubSystem::"x"',
    'resource.module == Module::"x"',
    "principal in resource.owner",
    'principal in [resource.owner, SubSystem::"y"]',
    'context.path like "x*"',
    "context has host",
    'context == {"host": "x", "path": "y", "size": 0}',
]
comparisons = st.one_of(
    st.tuples(texts, texts).map(lambda pair: f"{pair[0]} == {pair[1]}"),
    st.tuples(numbers, st.sampled_from(["<", ">=", "=="]), numbers).map(" ".join),
    texts.map(lambda text: f'["x"].contains({text})'),
)


def combined(conditions: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.recursive(
        conditions,
        lambda inner: st.one_of(
            inner.map(lambda one: f"!({one})"),
            st.tuples(inner, st.sampled_from(["&&", "||"]), inner).map(lambda of: f"({' '.join(of)})"),
            st.tuples(inner, inner, inner).map(lambda of: f"(if {of[0]} then {of[1]} else {of[2]})"),
        ),
        max_leaves=4,
    )


effects = st.sampled_from(["permit", "permit", "forbid"])
principals = st.sampled_from(
    ["principal", "principal", 'principal in SubSystem::"x"', 'principal == Agent::"x"']
)
rules = st.one_of(
    st.tuples(
        effects,
        principals,
        st.sampled_from(['action == Action::"m/a"', 'action in [Action::"m/a", Action::"m/b"]']),
        st.sampled_from(["resource", "resource", 'resource in Label::"x"', 'resource == Credential::"y"']),
        combined(st.one_of(comparisons, comparisons, st.sampled_from(ABOUT_AGENTS + ABOUT_USES))),
    ),
    # Of a group, or of all actions, a rule can't read what the actions differ in.
    st.tuples(
        effects,
        principals,
        st.sampled_from(["action", 'action in Action::"use"']),
        st.just("resource"),
        combined(st.sampled_from(ABOUT_AGENTS)),
    ),
)
AGENT = AgentEntity(
    agent="x",
    subsystem="x",
    node="x",
    # The guards let nobody else through.
    capabilities=frozenset({"credential:use"}),
    active=True,
    revocation_age_s=0,
)
OTHER_AGENTS = [
    replace(AGENT, agent="y"),
    replace(AGENT, subsystem="y"),
    replace(AGENT, node="y"),
    replace(AGENT, capabilities=frozenset({"credential:use", "x"})),
    replace(AGENT, active=False),
    replace(AGENT, revocation_age_s=1),
]
CREDENTIAL = CredentialEntity(name="x", module="x", owner="x", labels=("x",), guessable=False)
OTHER_CREDENTIALS = [
    replace(CREDENTIAL, name="y"),
    replace(CREDENTIAL, module="y"),
    replace(CREDENTIAL, owner="y"),
    replace(CREDENTIAL, labels=("y",)),
    replace(CREDENTIAL, guessable=True),
]
CONTEXT: dict[str, str | int] = {"host": "x", "path": "x", "size": 0}
CONTEXTS: list[dict[str, str | int]] = [
    *(CONTEXT | {"host": of[0], "path": of[1], "size": of[2]} for of in product("xy", "xy", (0, 2**63 - 1))),
    # These do not fit the schema.
    CONTEXT | {"path": 1},
    CONTEXT | {"size": 2**63},
    CONTEXT | {"more": "x"},
]


def text_of(parts: tuple[str, str, str, str, str], number: int) -> str:
    effect, principal, action, resource, condition = parts
    return f'@id("r{number}") {effect}({principal}, {action}, {resource}) when {{ {condition} }};\n'


@settings(max_examples=40)
@given(
    st.lists(rules, min_size=1, max_size=3),
    st.sampled_from(OTHER_AGENTS),
    st.sampled_from(OTHER_CREDENTIALS),
    st.permutations(CONTEXTS),
)
def test_a_remembered_answer_is_the_one_that_the_policies_give(
    written: list[tuple[str, str, str, str, str]],
    agent_too: AgentEntity,
    credential_too: CredentialEntity,
    contexts: list[dict[str, str | int]],
) -> None:
    text = "".join(text_of(parts, number) for number, parts in enumerate(written))
    policies = PolicySet(text, SCHEMA)
    judge = Judge(policies, digest=policies.digest)
    for agent, action, credential in product((AGENT, agent_too), ACTIONS, (CREDENTIAL, credential_too)):
        assert judge.preview(agent, action, credential) == policies.preview_use(agent, action, credential)
        assert judge.may_read(agent, "ledger") == policies.decide_read(agent, "ledger")
        for context in contexts:
            cold = policies.decide_use(agent, action, credential, context)
            assert judge.decide(agent, action, credential, context) == cold
