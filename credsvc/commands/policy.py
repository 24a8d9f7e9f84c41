"""`ostiary policy`: the Cedar policies of the credentials service. Grants of the CA are in its own
configuration.

`validate` and `set` ask the service, because the schema is made of the modules that are active there.
`explain` fetches the service's active policies and decides here, as the front would; nothing is recorded.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import click

from credsvc.commands.credential import PAIR
from credsvc.commands.service_verbs import call
from ostiary.cli import output

_FILE: Final = click.Path(path_type=Path, exists=True, dir_okay=False)
# The nil UUID (RFC 9562 section 5.9), which no agent has.
_ANYBODY: Final = "00000000-0000-0000-0000-000000000000"


@click.group()
def policy() -> None:
    """Validate, set, show and explain policies."""


@policy.command()
@click.argument("file", type=_FILE)
def validate(file: Path) -> None:
    """Check policies against the service's active modules; nothing changes."""
    done = call("policy.validate", policy=file.read_text("utf-8"))
    output.emit(done, human=f"valid: {len(done['rules'])} rules, digest {done['policy']}")


@policy.command("set")
@click.argument("file", type=_FILE)
def set_(file: Path) -> None:
    """Replace the service's policies."""
    done = call("policy.set", policy=file.read_text("utf-8"))
    output.emit(done, human=f"active: {len(done['rules'])} rules, recorded as entry {done['entry']}")


@policy.command()
@click.option("--schema", "only_schema", is_flag=True, help="The schema that policies are checked against.")
def show(only_schema: bool) -> None:
    """Show the active policies."""
    shown = call("policy.show")
    output.emit(shown, human=shown["schema"] if only_schema else shown["policy"])


@policy.command()
@click.argument("credential")
@click.argument("operation")
@click.option("--subsystem", required=True)
@click.option("--node", required=True)
@click.option("--agent", default=_ANYBODY, help="The agent that asks; otherwise one that no rule names.")
@click.option("--capability", "capabilities", multiple=True, default=("credential:use",), show_default=True)
@click.option(
    "--context",
    "context_pairs",
    type=PAIR,
    multiple=True,
    help="NAME=VALUE: one attribute of the context that policy sees.",
)
@click.pass_context
def explain(
    context: click.Context,
    /,
    credential: str,
    operation: str,
    context_pairs: Sequence[tuple[str, str]],
    **asked: Any,
) -> None:
    """Say which rule allows or refuses a use; the exit code is 1 if it is refused."""
    from credsvc.formula.manifest_toml import parse_manifest
    from credsvc.formula.types import Strength
    from credsvc.policy.cedar import AgentEntity, CredentialEntity, PolicySet
    from credsvc.policy.decision import Grant
    from credsvc.policy.schema import PolicySchema, action_name, policy_context

    shown, found = call("policy.show"), call("credential.show", name=credential)
    manifest = parse_manifest(call("module.show", name=found["module"])["manifest"].encode())
    kinds = dict(policy_context(manifest, operation))
    # As the front makes it (credsvc/front/catalog.py).
    entity = CredentialEntity(
        name=credential,
        module=found["module"],
        owner=found["owner"],
        labels=tuple(found["labels"]),
        guessable=any(field.strength is Strength.PASSWORD for field in manifest.confidential.values()),
    )
    agent = AgentEntity(
        agent=asked["agent"],
        subsystem=asked["subsystem"],
        node=asked["node"],
        capabilities=frozenset(asked["capabilities"]),
        # The best case: what refuses even this agent is a rule, and not the state of the cluster.
        active=True,
        revocation_age_s=0,
    )
    # Cedar tells "600" from 600; the manifest says which one a context attribute is.
    values = {name: int(text) if kinds.get(name) == "Long" else text for name, text in context_pairs}
    schema = PolicySchema(text=shown["schema"], guessable=frozenset(shown["guessable"]))
    decision = PolicySet(shown["policy"], schema).decide_use(
        agent, action_name(found["module"], operation), entity, values
    )
    granted = isinstance(decision, Grant)
    reason = "" if isinstance(decision, Grant) else decision.reason
    output.emit(
        {"allowed": granted, "rule": decision.rule, "reason": reason},
        human=f"{'allowed' if granted else 'refused'} by {decision.rule}" + (f": {reason}" if reason else ""),
    )
    context.exit(0 if granted else 1)
