"""What rules can read: exactly the parts that they name, and everything where that is not plain."""

from __future__ import annotations

import json
from typing import Any

import cedarpy
import pytest

from credsvc.policy.reads import EVERYTHING, Reads, find_reads

ACTION = "aws-sigv4/sign"
NOTHING = Reads(agent=(), credential=(), context=frozenset())
WHOLE_AGENT, WHOLE_CREDENTIAL = EVERYTHING.agent, EVERYTHING.credential


def rules(text: str) -> list[dict[str, Any]]:
    return list(json.loads(cedarpy.policies_to_json_str(text))["staticPolicies"].values())


def reads(text: str, action: str = ACTION) -> Reads:
    return find_reads(rules(text), action)


def when(condition: str) -> Reads:
    return reads(f"permit(principal, action, resource) when {{ {condition} }};")


def read(agent: tuple[str, ...] = (), credential: tuple[str, ...] = (), context: str = "") -> Reads:
    return Reads(agent=agent, credential=credential, context=frozenset(context.split()))


@pytest.mark.parametrize(
    ("scope", "found"),
    [
        ("principal, action, resource", NOTHING),
        ('principal == Agent::"a", action, resource', read(("agent",))),
        ('principal in Agent::"a", action, resource', read(("agent",))),
        ('principal in SubSystem::"s", action, resource', read(("subsystem",))),
        ('principal in Node::"n", action, resource', read(("node",))),
        ("principal is Agent, action, resource is Credential", NOTHING),
        ('principal is Agent in Node::"n", action, resource', read(("node",))),
        ('principal, action, resource in Label::"l"', read(credential=("labels",))),
        ('principal, action, resource == Credential::"c"', read(credential=("name",))),
        ('principal in Other::"x", action, resource', EVERYTHING),
    ],
)
def test_a_scope(scope: str, found: Reads) -> None:
    assert reads(f"permit({scope});") == found


@pytest.mark.parametrize(
    ("condition", "found"),
    [
        ("true", NOTHING),
        ('action == Action::"x"', NOTHING),
        ('context.service == "s3"', read(context="service")),
        (
            'context has service && context["a b"] == 1',
            Reads(agent=(), credential=(), context=frozenset({"service", "a b"})),
        ),
        ('context.path like "/a/*"', read(context="path")),
        ('["s3"].contains(context.service)', read(context="service")),
        ("-context.size + 1 < 2 * context.other", read(context="size other")),
        ('if context.a == 1 then context.b == 1 else !(context.c == "x")', read(context="a b c")),
        ("context.size > 1 || [context.a, context.b].isEmpty()", read(context="size a b")),
        ('{x: context.a} == {x: "y"}', read(context="a")),
        ('principal.capabilities.containsAll(["a"]) && principal.active', read(("capabilities", "active"))),
        ("principal.revocation_age < 30", read(("revocation_age_s",))),
        (
            'principal in SubSystem::"s" || principal in [Node::"n", Agent::"a"]',
            read(("agent", "subsystem", "node")),
        ),
        ("principal is Agent", NOTHING),
        ('principal is Agent in SubSystem::"s"', read(("subsystem",))),
        ("principal in resource.owner", read(("subsystem",), ("owner",))),
        ('principal in [resource.owner, Node::"n"]', read(("subsystem", "node"), ("owner",))),
        ('resource.owner == SubSystem::"s"', read(credential=("owner",))),
        ('resource.module in [Module::"m"] && resource.guessable', read(credential=("module", "guessable"))),
        (
            'resource in Label::"l" || resource == Credential::"c"',
            Reads(agent=(), credential=WHOLE_CREDENTIAL, context=frozenset()),
        ),
        ('principal == Agent::"a"', read(WHOLE_AGENT)),
        ("principal in context.group", Reads(agent=WHOLE_AGENT, credential=(), context=frozenset({"group"}))),
        ('context == {a: "b"}', Reads(agent=(), credential=(), context=None)),
        ('principal.hasTag("x")', EVERYTHING),
        ("principal.name == 1", EVERYTHING),
        ('ip("127.0.0.1").isLoopback()', EVERYTHING),
    ],
)
def test_a_condition(condition: str, found: Reads) -> None:
    assert when(condition) == found


def test_all_rules_of_an_action_count_and_no_others() -> None:
    text = """
    permit(principal, action == Action::"aws-sigv4/sign", resource) when { context.a == 1 };
    permit(principal, action in Action::"use", resource) when { context.b == 1 };
    forbid(principal, action in [Action::"gogrid/sign", Action::"aws-sigv4/sign"], resource)
    when { context.c == 1 };
    forbid(principal, action, resource) unless { context.d == 1 };
    permit(principal, action == Action::"gogrid/sign", resource) when { context.e == 1 };
    permit(principal, action in [Action::"read"], resource) when { context.f == 1 };
    """
    assert reads(text) == read(context="a b c d")
    assert reads(text, "gogrid/sign") == read(context="b c d e")


@pytest.mark.parametrize(
    "changed",
    [
        {"principal": {"op": "later"}},
        {"principal": {"op": "==", "slot": "?principal"}},
        {"resource": {"op": "All", "more": 1}},
        {
            "action": {"op": "later"},
            "conditions": [{"kind": "when", "body": {"later": [{"Var": "context"}]}}],
        },
        {"action": {"op": "=="}},
        {"conditions": [{"kind": "when", "body": {"Var": "later"}}]},
        {"conditions": [{"kind": "when", "body": {"==": {"left": {"Value": 1}, "later": {"Value": 1}}}}]},
        {"conditions": [{"kind": "when", "body": {"Value": 1, "Var": "context"}}]},
        {"conditions": [{"kind": "when"}]},
        {"conditions": None},
    ],
)
def test_what_a_later_cedar_may_say_reads_everything(changed: dict[str, Any]) -> None:
    (rule,) = rules("permit(principal, action, resource);")
    assert find_reads([rule], ACTION) == NOTHING
    assert find_reads([rule | changed], ACTION) == EVERYTHING
