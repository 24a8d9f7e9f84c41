"""The Cedar schema of a credentials service, generated from the manifests that were approved.

Rules:
- One action for each operation, `"<module>/<operation>"`, in the group `use`; its context is what the
  manifest names as policy context, with its types. Cedar has no open maps, so a typo in a policy's context
  attribute is caught when the policy is loaded.
- The built-in guards come first and cannot be replaced: without `credential:use` in an active certificate
  there is no use.
- An operation that lets passwords be tried (`credsvc.formula.report`, note 1) is allowed only by a rule that
  names its action.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from credsvc.formula.manifest import CedarType, Manifest, cedar_type
from credsvc.formula.report import report_manifest
from ostiary.errors import BadInput

# Long is Cedar's only number: an age counts seconds. An agent's parents are its sub-system and its node.
_ENTITIES = """\
entity SubSystem, Node, Label, Module, Ledger;
entity Agent in [SubSystem, Node] { capabilities: Set<String>, active: Bool, revocation_age: Long };
entity Credential in [Label] { module: Module, owner: SubSystem, guessable: Bool };
action use appliesTo { principal: Agent, resource: Credential, context: {} };
action read appliesTo { principal: Agent, resource: Ledger, context: {} };
"""

# Forbids, because in Cedar a forbid wins over every permit, whatever operators write.
GUARDS = """\
@id("use-needs-capability")
forbid(principal, action in Action::"use", resource)
unless { principal.capabilities.contains("credential:use") && principal.active };

@id("read-needs-capability")
forbid(principal, action == Action::"read", resource)
unless { principal.capabilities.contains("ledger:read") && principal.active };

@id("auditors-read-the-ledger")
permit(principal, action == Action::"read", resource)
when { principal.capabilities.contains("ledger:read") };
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySchema:
    """The schema in Cedar's human syntax, and the actions that a permit must name."""

    text: str
    guessable: frozenset[str]


def action_name(module: str, operation: str) -> str:
    """The action of one operation of one module."""
    return f"{module}/{operation}"


def policy_context(manifest: Manifest, operation: str) -> tuple[tuple[str, CedarType], ...]:
    """The policy context of an operation as (name, Cedar type), in the manifest's order."""
    found = manifest.operations.get(operation)
    if found is None:
        raise BadInput(f"module {manifest.name!r} has no operation {operation!r}", field="operation")
    return tuple((source.name, cedar_type(found.formulas[0], source)) for source in found.context)


def build_schema(manifests: Iterable[Manifest]) -> PolicySchema:
    """The schema of these manifests; the same text for the same set of them."""
    lines = [_ENTITIES]
    guessable: set[str] = set()
    # Sorted: the schema is compared and shown, and must not depend on the order of rows in the store.
    for manifest in sorted(manifests, key=lambda m: m.name):
        lines += [_action(manifest, operation) for operation in sorted(manifest.operations)]
        guessable |= {action_name(manifest.name, each) for each in report_manifest(manifest).guessable}
    return PolicySchema(text="".join(lines), guessable=frozenset(guessable))


def _action(manifest: Manifest, operation: str) -> str:
    members = ", ".join(f"{json.dumps(name)}: {kind}" for name, kind in policy_context(manifest, operation))
    name = json.dumps(action_name(manifest.name, operation))
    applies = f"principal: Agent, resource: Credential, context: {{ {members} }}"
    return f"action {name} in [use] appliesTo {{ {applies} }};\n"
