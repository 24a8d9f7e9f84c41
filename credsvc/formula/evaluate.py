"""Evaluation: an approved formula, checked holes and a credential's fields give what the formula releases.

Rules:
- Pure: no clock, no randomness, no I/O. Secrets are bytes inside one call and in a `Memo`, nowhere else.
- No exception that leaves carries a value: a failure inside becomes InternalFault with a constant text and no
  cause.

Leaves to others: approval (`approve.py`). Nothing here asks whether a formula is safe; the caller has.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from credsvc.formula.compile import Environment, Memo, Program, compile_formula
from credsvc.formula.holes import FilledHoles, check_holes
from ostiary.errors import BadInput, InternalFault

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from credsvc.formula.manifest import Manifest

__all__ = ["Memo", "Released", "build_environment", "evaluate", "evaluate_filled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """What a formula gives its caller: text for each sink; `verified` is None where it has no verify."""

    formula: str
    outputs: Mapping[str, str]
    verified: bool | None


def evaluate(  # noqa: PLR0913 - each is named at the call; bundling them would hide what is secret
    manifest: Manifest,
    formula_name: str,
    holes: Mapping[str, object],
    *,
    operation: str | None,
    shareable: Mapping[str, str],
    confidential: Mapping[str, bytes],
    ceiling: Mapping[str, Sequence[str]],
    now: datetime,
    memo: Memo | None,
) -> Released:
    """Check the holes against types, ceiling and `now`, then evaluate.

    `memo` belongs to this sealed blob alone. BadInput or Forbidden as in `check_holes`; BadInput for
    a missing confidential field. Not checked: approval, policy, shapes of the credential's fields.
    """
    filled = check_holes(manifest, formula_name, holes, operation=operation, now=now, ceiling=ceiling)
    return evaluate_filled(manifest, filled, shareable=shareable, confidential=confidential, memo=memo)


def evaluate_filled(
    manifest: Manifest,
    filled: FilledHoles,
    *,
    shareable: Mapping[str, str],
    confidential: Mapping[str, bytes],
    memo: Memo | None,
    state: Mapping[str, bytes] | None = None,
) -> Released:
    """Evaluate a formula whose holes were checked; `state` has the values of its `#names`."""
    for name in manifest.confidential:
        if name not in confidential:
            raise BadInput(f"the credential has no field {name!r}", field=f"confidential.{name}")
    program = compile_formula(manifest, filled.formula.name)
    env = build_environment(program, filled, shareable, confidential, state or {}, memo)
    try:
        return _run(program, filled.formula.name, env)
    # BadInput is raised here with constant texts only: the sides of an xor differ in length.
    except BadInput:
        raise
    except Exception:  # noqa: BLE001 - a foreign exception may quote a value
        raise InternalFault("the formula could not be evaluated") from None


def build_environment(
    program: Program,
    filled: FilledHoles,
    shareable: Mapping[str, str],
    confidential: Mapping[str, bytes],
    state: Mapping[str, bytes],
    memo: Memo | None,
) -> Environment:
    return Environment(
        holes=filled.values,
        shareable={name: value.encode() for name, value in shareable.items()},
        confidential=confidential,
        state=state,
        memo=memo,
        slots=program.slots,
    )


def _run(program: Program, formula: str, env: Environment) -> Released:
    outputs: dict[str, str] = {}
    verified: bool | None = None
    for output in program.outputs:
        if output.kind == "verify":
            verified = bool(output.compute(env))
        elif output.optional is None or output.optional in env.shareable:
            outputs[output.sink] = output.compute(env).decode()
    return Released(formula=formula, outputs=outputs, verified=verified)
