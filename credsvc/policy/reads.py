"""What the rules of an action can read of a request: the part of it that a decision depends on. Pure.

Rules:
- A decision is a function of what its rules read. Two requests that are equal in all of that get the same
  answer, whatever else they differ in (`credsvc.policy.judge`).
- Rules are read in Cedar's JSON form. Whatever is not understood here, be it an operator, a form of a scope
  or an attribute, counts as reading everything.
- Too much costs time, too little would be a wrong answer: so a rule counts for an action unless its scope
  names only others, and every branch of a condition counts.

Cedar's JSON policy format: docs.cedarpolicy.com/policies/json-format.html.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

AGENT_FIELDS: Final = ("agent", "subsystem", "node", "capabilities", "active", "revocation_age_s")
CREDENTIAL_FIELDS: Final = ("name", "module", "owner", "labels", "guessable")
# The group of all actions that use a credential (`credsvc.policy.schema`), and the only group there is.
_GROUP: Final = "use"

# By variable: which field an attribute is, and which field membership in an entity of a type depends on (an
# entity is in itself, and in its parents: those of an agent are its sub-system and its node).
_ATTRIBUTES: Final[Mapping[str, Mapping[str, str]]] = {
    "principal": {"capabilities": "capabilities", "active": "active", "revocation_age": "revocation_age_s"},
    "resource": {"module": "module", "owner": "owner", "guessable": "guessable"},
}
_MEMBERSHIP: Final[Mapping[str, Mapping[str, str]]] = {
    "principal": {"Agent": "agent", "SubSystem": "subsystem", "Node": "node"},
    "resource": {"Credential": "name", "Ledger": "name", "Label": "labels"},
}
# The one attribute that is an entity with members, and its type.
_OWNER: Final = {".": {"left": {"Var": "resource"}, "attr": "owner"}}
_OWNER_TYPE: Final = "SubSystem"
# Pure functions of their operands.
_OPERATORS: Final = frozenset(
    {"!", "neg", "isEmpty", "==", "!=", "<", "<=", ">", ">=", "&&", "||", "+", "-", "*"}
    | {"in", "contains", "containsAll", "containsAny"}
)
_OPERANDS: Final = frozenset({"arg", "left", "right"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Reads:
    """Fields of the agent and of the credential, in their order, and names of the context's attributes.

    `context` None means all of it.
    """

    agent: tuple[str, ...]
    credential: tuple[str, ...]
    context: frozenset[str] | None


EVERYTHING: Final = Reads(agent=AGENT_FIELDS, credential=CREDENTIAL_FIELDS, context=None)


class _Unknown(Exception):
    """A form that this file does not know."""


def find_reads(rules: Iterable[Mapping[str, Any]], action: str) -> Reads:
    """Return what these rules (each in Cedar's JSON form) can read when they decide on `action`."""
    found = _Found()
    try:
        for rule in rules:
            if _concerns(rule["action"], action):
                found.add_rule(rule)
    # KeyError and the like: a form that has other members than the known one.
    except (_Unknown, LookupError, TypeError, AttributeError, ValueError):
        return EVERYTHING
    return Reads(
        agent=tuple(name for name in AGENT_FIELDS if name in found.fields["principal"]),
        credential=tuple(name for name in CREDENTIAL_FIELDS if name in found.fields["resource"]),
        context=None if found.whole_context else frozenset(found.context),
    )


def _concerns(scope: Mapping[str, Any], action: str) -> bool:
    """Whether a rule with this scope may decide on `action`; true where that is not plain."""
    if scope["op"] not in {"==", "in"}:
        return True
    entities: Sequence[Mapping[str, Any]] = scope["entities"] if "entities" in scope else [scope["entity"]]
    return any(entity["id"] in {action, _GROUP} for entity in entities)


class _Found:
    """What was found so far."""

    def __init__(self) -> None:
        self.fields: dict[str, set[str]] = {"principal": set(), "resource": set()}
        self.context: set[str] = set()
        self.whole_context = False

    def add_rule(self, rule: Mapping[str, Any]) -> None:
        for variable in ("principal", "resource"):
            self._add_scope(variable, rule[variable])
        for condition in rule["conditions"]:
            self._add(condition["body"])

    def _add_scope(self, variable: str, scope: Mapping[str, Any]) -> None:
        match scope:
            case {"op": "All", **rest} if not rest:
                pass
            case {"op": "==" | "in", "entity": entity, **rest} if not rest:
                self._add_membership(variable, {"Value": {"__entity": entity}})
            # An entity's type never differs between requests of one action.
            case {"op": "is", "entity_type": str(), **rest} if not rest:
                pass
            case {"op": "is", "entity_type": str(), "in": {"entity": entity}, **rest} if not rest:
                self._add_membership(variable, {"Value": {"__entity": entity}})
            case _:
                raise _Unknown

    def _add(self, expression: Mapping[str, Any]) -> None:
        """Add what an expression can read."""
        ((operator, rest),) = expression.items()
        if operator == "Value" or expression == {"Var": "action"}:
            return
        if operator == "Var":
            self._add_whole(rest)
        elif operator in {".", "has"}:
            self._add_attribute(rest)
        elif operator == "in" and rest["left"] in _VARIABLES:
            self._add_membership(rest["left"]["Var"], rest["right"])
        elif operator == "is" and rest["left"] in _VARIABLES:
            if "in" in rest:
                self._add_membership(rest["left"]["Var"], rest["in"])
        else:
            for part in _parts(operator, rest):
                self._add(part)

    def _add_whole(self, variable: str) -> None:
        if variable == "context":
            self.whole_context = True
        elif variable in self.fields:
            self.fields[variable].update(AGENT_FIELDS if variable == "principal" else CREDENTIAL_FIELDS)
        else:
            raise _Unknown

    def _add_attribute(self, rest: Mapping[str, Any]) -> None:
        left, name = rest["left"], rest["attr"]
        variable = left.get("Var")
        if variable == "context":
            self.context.add(name)
        elif variable in _ATTRIBUTES:
            self.fields[variable].add(_ATTRIBUTES[variable][name])
        else:
            self._add(left)

    def _add_membership(self, variable: str, group: Mapping[str, Any]) -> None:
        """Add what `variable in group` reads."""
        match group:
            case {"Value": {"__entity": {"type": str(kind)}}}:
                self.fields[variable].add(_MEMBERSHIP[variable][kind])
            case {"Set": list(members)}:
                for member in members:
                    self._add_membership(variable, member)
            case _ if group == _OWNER:
                self._add(group)
                self.fields[variable].add(_MEMBERSHIP[variable][_OWNER_TYPE])
            case _:
                self._add_whole(variable)
                self._add(group)


_VARIABLES: Final = ({"Var": "principal"}, {"Var": "resource"})


def _parts(operator: str, rest: Any) -> Iterable[Mapping[str, Any]]:
    """The operands of an expression whose value depends on nothing else."""
    if operator in _OPERATORS and rest.keys() <= _OPERANDS:
        return tuple(rest.values())
    if operator == "if-then-else":
        return rest["if"], rest["then"], rest["else"]
    if operator in {"like", "is"}:
        # The pattern, and the name of a type, are constants.
        return (rest["left"], rest["in"]) if "in" in rest else (rest["left"],)
    if operator == "Set":
        return tuple(rest)
    if operator == "Record":
        return tuple(rest.values())
    raise _Unknown
