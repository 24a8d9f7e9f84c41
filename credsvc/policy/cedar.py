"""The one file that knows the Cedar engine (cedarpy): policies parsed ahead, decisions by rule.

Rules:
- A policy set is refused at load unless it validates against the schema, and each rule has an `@id` of its
  own.
- cedarpy names the deciding rule by its position, which is mapped to the rule's `@id`. Where several rules
  decide, the first by position is named.
- A guessable operation is allowed by rules that name its action alone (`action == ...`, or a member of
  `action in [...]`), not by a group.
- `preview` uses Cedar's partial evaluation, which is experimental: it may only refuse early, never allow
  (docs/adr/0010-policy-in-cedar.md).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import cedarpy

from credsvc.policy.decision import DEFAULT_DENY, GUESSABLE_UNNAMED, Denial, Grant, Undecided
from credsvc.policy.reads import Reads, find_reads
from credsvc.policy.schema import GUARDS, PolicySchema
from ostiary.errors import BadInput

# Some hundred rules. The set travels in one work item, far below what a channel carries in one packet.
MAX_POLICY_BYTES: Final = 40 * 1024
# Pairs of an agent and a credential, some kilobytes each.
_KEPT_ENTITIES: Final = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentEntity:
    """An agent as policy sees it; `revocation_age_s` is the age of the newest word on revocations."""

    agent: str
    subsystem: str
    node: str
    capabilities: frozenset[str]
    active: bool
    revocation_age_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialEntity:
    """A credential as policy sees it."""

    name: str
    module: str
    owner: str
    labels: tuple[str, ...]
    guessable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rule:
    """One rule: its `@id`, whether it forbids, the actions that it permits by name, and its JSON form."""

    rule: str
    forbids: bool
    permits: frozenset[str]
    form: Mapping[str, Any]


class PolicySet:
    """Validated policies of one digest; immutable, so threads may share it."""

    def __init__(self, text: str, schema: PolicySchema) -> None:
        """Parse the operators' rules behind the built-in guards; BadInput says what does not validate."""
        self.text = text
        self.digest = hashlib.sha256(text.encode()).hexdigest()
        if len(text.encode()) > MAX_POLICY_BYTES:
            raise BadInput(f"the policies are longer than {MAX_POLICY_BYTES} bytes", field="policy")
        whole = f"{GUARDS}\n{text}"
        self._policies, self._rules = _parse(whole)
        self._guessable = schema.guessable
        self._unnamed = schema.guessable.difference(*(each.permits for each in self._rules.values()))
        result = cedarpy.validate_policies(whole, schema.text)
        if not result.validation_passed:
            told = "; ".join(str(error.error) for error in result.errors)
            raise BadInput(f"the policies do not fit the schema: {told}", field="policy")
        # Parsed once, as the policies are: with 50 of them a decision takes 70 us, and 0.7 ms if it parses
        # the text.
        self._schema = cedarpy.Schema.from_str(schema.text)
        # And so are the entities, which takes half of a decision: an agent asks for the same credential again
        # and again. Around a bound method, so that each set has its own, which end with it.
        self._entities = lru_cache(maxsize=_KEPT_ENTITIES)(self._parse_entities)

    @property
    def rules(self) -> tuple[str, ...]:
        """The rules' ids in order."""
        return tuple(each.rule for each in self._rules.values())

    def reads(self, action: str) -> Reads:
        """What of a request its decision depends on, for this action."""
        return find_reads((each.form for each in self._rules.values()), action)

    def decide_use(
        self, agent: AgentEntity, action: str, credential: CredentialEntity, context: Mapping[str, str | int]
    ) -> Grant | Denial:
        """Decide one use with everything known."""
        request = _request(agent, action, credential)
        request["context"] = dict(context)
        entities = self._entities(agent, credential)
        result = cedarpy.is_authorized(request, self._policies, entities, self._schema)
        reasons = result.diagnostics.reasons
        # Cedar says which permits held. Those that name the action only by its group do not count here.
        if result.allowed and action in self._guessable:
            reasons = [reason for reason in reasons if action in self._rules[reason].permits]
            if not reasons:
                return _unnamed(action)
        return self._answer(result.allowed, reasons, result.diagnostics.errors)

    def is_guessable(self, action: str) -> bool:
        """Whether what the operation releases lets passwords be tried."""
        return action in self._guessable

    def preview_use(
        self, agent: AgentEntity, action: str, credential: CredentialEntity
    ) -> Denial | Undecided:
        """Refuse what no context could allow."""
        entities = self._entities(agent, credential)
        result = cedarpy.is_authorized_partial(
            _partial_request(agent, action, credential), self._policies, entities, self._schema
        )
        if result.decision is cedarpy.Decision.Deny:
            # A partial answer lists every rule that holds already, permits too; only a forbid denied.
            return self._denial([each for each in result.diagnostics.reasons if self._rules[each].forbids])
        return _unnamed(action) if action in self._unnamed else Undecided()

    def decide_read(self, agent: AgentEntity, ledger: str) -> Grant | Denial:
        """Decide whether an agent may read a ledger's entries."""
        request = {
            "principal": _uid("Agent", agent.agent),
            "action": _uid("Action", "read"),
            "resource": _uid("Ledger", ledger),
            "context": {},
        }
        entities = [*_agent(agent), {"uid": {"type": "Ledger", "id": ledger}, "attrs": {}, "parents": []}]
        result = cedarpy.is_authorized(request, self._policies, entities, self._schema)
        return self._answer(result.allowed, result.diagnostics.reasons, result.diagnostics.errors)

    def _parse_entities(self, agent: AgentEntity, credential: CredentialEntity) -> cedarpy.Entities:
        # Checked against the schema here; it is not looked at again for a handle.
        text = json.dumps([*_agent(agent), *_credential(credential)])
        return cedarpy.Entities.from_json_str(text, self._schema)

    def _answer(
        self,
        allowed: bool,  # noqa: FBT001 - Cedar's answer
        reasons: list[str],
        errors: list[str],
    ) -> Grant | Denial:
        # Cedar skips a rule that fails to evaluate. A forbid that is skipped is a permit, so any error
        # denies.
        if errors:
            return Denial(rule="policy-error", reason="a policy could not be evaluated for this request")
        if allowed:
            return Grant(rule=self._first(reasons))
        return self._denial(reasons)

    def _denial(self, reasons: list[str]) -> Denial:
        if not reasons:
            return Denial(rule=DEFAULT_DENY, reason="no policy permits this")
        rule = self._first(reasons)
        return Denial(rule=rule, reason=f"policy '{rule}' forbids this")

    def _first(self, reasons: list[str]) -> str:
        return self._rules[min(reasons, key=lambda reason: int(reason.removeprefix("policy")))].rule


def _unnamed(action: str) -> Denial:
    return Denial(
        rule=GUESSABLE_UNNAMED,
        reason=f"'{action}' lets passwords be tried, and no policy permits it by name",
    )


def _parse(text: str) -> tuple[cedarpy.PolicySet, dict[str, _Rule]]:
    """The policies, and the rules by their positions."""
    try:
        policies = cedarpy.PolicySet.from_str(text)
        parsed = json.loads(cedarpy.policies_to_json_str(text))
    except ValueError as exc:
        raise BadInput(f"the policies do not parse: {exc}", field="policy") from exc
    # A template is a rule only once it is linked, and nothing here links.
    if parsed["templates"]:
        raise BadInput("policy templates are not supported: write each rule out", field="policy")
    rules: dict[str, _Rule] = {}
    for position, policy in sorted(
        parsed["staticPolicies"].items(), key=lambda kv: int(kv[0].removeprefix("policy"))
    ):
        rule = policy.get("annotations", {}).get("id")
        if not rule or any(rule == each.rule for each in rules.values()):
            raise BadInput(f"each policy needs an @id of its own; {position} has {rule!r}", field="policy")
        forbids = policy["effect"] == "forbid"
        permits = frozenset[str]() if forbids else _named_actions(policy["action"])
        rules[position] = _Rule(rule=rule, forbids=forbids, permits=permits, form=policy)
    return policies, rules


def _named_actions(scope: Mapping[str, Any]) -> frozenset[str]:
    """The actions that a rule's scope names one by one."""
    # `action == A` has `entity`, `action in [A, B]` has `entities`; `action in G` looks as `==` does, but G
    # is the group `use`, which no operation is called.
    entities = scope.get("entities", [scope["entity"]] if "entity" in scope else [])
    return frozenset(entity["id"] for entity in entities)


def _uid(kind: str, name: str) -> dict[str, str]:
    # Not in Cedar's syntax (`Agent::"..."`): to parse three of these takes longer than a decision.
    return {"type": kind, "id": name}


def _request(agent: AgentEntity, action: str, credential: CredentialEntity) -> dict[str, Any]:
    return {
        "principal": _uid("Agent", agent.agent),
        "action": _uid("Action", action),
        "resource": _uid("Credential", credential.name),
    }


def _partial_request(agent: AgentEntity, action: str, credential: CredentialEntity) -> dict[str, str]:
    """The same, as partial evaluation takes it."""
    # Cedar's strings are quoted as JSON's are, but for other characters than ASCII, which stay as they are.
    return {
        name: f"{uid['type']}::{json.dumps(uid['id'], ensure_ascii=False)}"
        for name, uid in _request(agent, action, credential).items()
    }


def _agent(agent: AgentEntity) -> list[dict[str, Any]]:
    subsystem, node = {"type": "SubSystem", "id": agent.subsystem}, {"type": "Node", "id": agent.node}
    attributes = {
        "capabilities": sorted(agent.capabilities),
        "active": agent.active,
        "revocation_age": agent.revocation_age_s,
    }
    return [{"uid": {"type": "Agent", "id": agent.agent}, "attrs": attributes, "parents": [subsystem, node]}]


def _credential(credential: CredentialEntity) -> list[dict[str, Any]]:
    attributes = {
        "module": {"__entity": {"type": "Module", "id": credential.module}},
        "owner": {"__entity": {"type": "SubSystem", "id": credential.owner}},
        "guessable": credential.guessable,
    }
    labels = [{"type": "Label", "id": label} for label in credential.labels]
    return [{"uid": {"type": "Credential", "id": credential.name}, "attrs": attributes, "parents": labels}]
