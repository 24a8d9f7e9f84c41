"""What a formula computes, shown by name: to a caller before anything is signed, to an author with published
keys.

- `explain` shows what does not depend on a secret, and needs none.
- `trace` shows everything, and is for the published keys of vectors only.

The front and the commands load this file; no keyholder does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from credsvc.formula.compile import compile_bindings, compile_formula
from credsvc.formula.evaluate import build_environment

if TYPE_CHECKING:
    from collections.abc import Mapping

    from credsvc.formula.compile import Environment, Program
    from credsvc.formula.holes import FilledHoles
    from credsvc.formula.manifest import Manifest


def explain(manifest: Manifest, filled: FilledHoles, *, shareable: Mapping[str, str]) -> dict[str, str]:
    """Every binding and release that does not depend on a secret, by name, in order; octets as hex."""
    name = filled.formula.name
    program, bindings = compile_formula(manifest, name), compile_bindings(manifest, name)
    env = build_environment(program, filled, shareable, {}, {}, None)
    shown = {each.name: _show(each.compute(env)) for each in bindings if not each.is_secret}
    for output in program.outputs:
        if not output.is_secret and output.optional not in _absent(program, env):
            shown[output.sink] = _show(output.compute(env))
    return shown


def trace(
    manifest: Manifest,
    filled: FilledHoles,
    *,
    shareable: Mapping[str, str],
    confidential: Mapping[str, bytes],
    state: Mapping[str, bytes] | None = None,
) -> dict[str, str]:
    """Every binding by name, in order, secrets and derived keys too: for a vector's published key, never for
    a credential.
    """
    program = compile_formula(manifest, filled.formula.name)
    env = build_environment(program, filled, shareable, confidential, state or {}, None)
    bindings = compile_bindings(manifest, filled.formula.name)
    return {each.name: _show(each.compute(env)) for each in bindings}


def _absent(program: Program, env: Environment) -> set[str]:
    return {
        output.optional
        for output in program.outputs
        if output.optional and output.optional not in env.shareable
    }


def _show(value: bytes) -> str:
    # A canonical request has line ends and is read as text; anything else that does not print is octets.
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return value.hex()
    return text if all(character.isprintable() or character == "\n" for character in text) else value.hex()
