"""docs/rules.md explains each rule that the sources can name, and no other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from ca.front import agents_api, app
from ca.front.peer import Standing
from ca.recorder.rules import RULES
from credsvc.policy.decision import DEFAULT_DENY, GUESSABLE_UNNAMED
from credsvc.policy.schema import GUARDS
from tests.support.repository import ROOT

PAGE = (ROOT / "docs" / "rules.md").read_text("utf-8")
ITEM = re.compile(
    r"^- `([^`]+)`: (.+?)\.(?:\n  \*What to do:\* (.+?)\.)?(?=\n- |\n\n|\Z)", re.MULTILINE | re.DOTALL
)
NAME = re.compile(r"[a-z]+(-[a-z]+)*")

CREDENTIALS = (
    "credsvc/recorder/decide.py",
    "credsvc/front/doorkeeper.py",
    "credsvc/front/stages.py",
    "credsvc/front/app.py",
)
POLICY = ("credsvc/policy/cedar.py", "credsvc/formula/holes.py")
MANAGER = (
    "certmgr/agents.py",
    "certmgr/api.py",
    "certmgr/binding.py",
    "certmgr/processes.py",
    "certmgr/scopes.py",
)


def rows(heading: str) -> dict[str, tuple[str, str]]:
    """Rule -> meaning and what to do, of one section."""
    (section,) = re.findall(rf"^## {heading}$(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    found = [[" ".join(text.split()) for text in item] for item in ITEM.findall(section.rstrip())]
    assert len(found) == len({name for name, *_ in found}) > 0, "a rule is there twice, or none"
    return {name: (meaning, advice) for name, meaning, advice in found}


def _constants(call: ast.Call) -> Iterator[str]:
    """The rule names that a call has: `rule="..."`, and the names among the arguments of those that deny."""
    named = [keyword.value for keyword in call.keywords if keyword.arg == "rule"]
    called = getattr(call.func, "attr", getattr(call.func, "id", ""))
    if called == "_deny":
        named += call.args[:1]
    if called == "_refuse":
        named += call.args[2:3]
    if called == "refusal":
        named += call.args[:1]
    for value in named:
        if isinstance(value, ast.Constant) and isinstance(value.value, str) and NAME.fullmatch(value.value):
            yield value.value


def rules_in(source: str) -> set[str]:
    calls = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call))
    return {name for call in calls for name in _constants(call)}


def rules_of(*paths: str) -> set[str]:
    return set().union(*(rules_in((ROOT / path).read_text("utf-8")) for path in paths))


def counted_in(source: str) -> set[str]:
    """The reasons under which strangers are counted: `count_stranger(source, reason)`,
    `_refusals.add(source, reason)`.
    """
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(
            ("count_stranger", "_refusals.add")
        ):
            texts = [each.value for each in ast.walk(node.args[1]) if isinstance(each, ast.Constant)]
            found |= {text for text in texts if isinstance(text, str)}
    return found


def test_the_authoritys_rules() -> None:
    assert {name: meaning for name, (meaning, _) in rows("The certificate authority").items()} == RULES


def test_every_rule_of_the_authority_is_used() -> None:
    used = set()
    for path in set((ROOT / "ca").rglob("*.py")) - {ROOT / "ca" / "recorder" / "rules.py"}:
        nodes = ast.walk(ast.parse(path.read_text("utf-8")))
        used |= {
            node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }
    assert used >= set(RULES)


def test_the_fronts_rules() -> None:
    paths = sorted((ROOT / "ca" / "front").glob("*.py"))
    needed = set()
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "require":
                needed.add(ast.unparse(node.args[1]))
    assert needed == {"ENROLL_NODE", "LEDGER_READ"}
    rules = rules_of(*(str(path.relative_to(ROOT)) for path in paths)) - set(RULES)
    rules |= {f"certificate-{standing.value}" for standing in Standing} - {"certificate-revoked"}
    rules |= {f"capability-{agents_api.ENROLL_NODE}", f"capability-{app.LEDGER_READ}"}
    assert set(rows("The certificate authority's front")) == rules


def test_the_credentials_services_rules() -> None:
    guards = set(re.findall(r'@id\("([^"]+)"\)\nforbid', GUARDS))
    assert guards
    assert set(rows("The credentials service")) == rules_of(*CREDENTIALS, *POLICY) | guards | {
        DEFAULT_DENY,
        GUESSABLE_UNNAMED,
    }


def test_the_managers_rules() -> None:
    assert set(rows("The certificate manager")) == rules_of(*MANAGER)


def test_what_is_only_counted() -> None:
    sources = [*(ROOT / "ca").rglob("*.py"), *(ROOT / "credsvc").rglob("*.py")]
    counted = set().union(*(counted_in(path.read_text("utf-8")) for path in sources))
    assert set(rows("Counted, without a name")) == counted


@pytest.mark.parametrize(
    "heading",
    [
        "The certificate authority",
        "The certificate authority's front",
        "The credentials service",
        "The certificate manager",
    ],
)
def test_each_rule_says_what_to_do(heading: str) -> None:
    for name, (meaning, advice) in rows(heading).items():
        assert meaning, name
        assert advice, name


def test_a_rule_is_found_wherever_it_is_named() -> None:
    source = (
        'raise Forbidden("x", rule="a-b")\n'
        '_deny("c-d", "why")\n'
        'self._refuse(r, s, "e-f", "why")\n'
        'refusal("g-h", "why")'
    )
    assert rules_in(source) == {"a-b", "c-d", "e-f", "g-h"}
    assert counted_in('self.count_stranger(source, "a" if x is None else "b")') == {"a", "b"}
