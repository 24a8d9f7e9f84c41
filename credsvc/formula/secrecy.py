"""Which values of a formula bear a secret, which of them leave with a release, and which stay inside.

The plan of `revealed`, for whoever sees the value of an expression:
1. An expression without a secret reveals none.
2. The value of a one-way function is seen, and nothing below it.
3. An xor hides both sides while both are secret; then its own value is seen, and each side is an inner value.
   With one side public, the other one is seen.
4. Yes or no about a value (`equal`) is not the value.
5. Everything else (encodings, concatenation, join) hides nothing: what its parts reveal is seen.

The plan of `inner_values`: every one-way value with a secret that stands below another one-way function or an
xor.

Leaves to others: what may leave (`approve.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from credsvc.formula.notation import Call, Confidential, Expression, Output, children, walk
from credsvc.formula.shape import ONE_WAY, Atom, Shapes, bindings_of, expand

if TYPE_CHECKING:
    from collections.abc import Iterator

    from credsvc.formula.manifest import Formula, Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """A secret-bearing value of a formula: revealed by a line, or inner to it."""

    formula: Formula
    line: int
    expression: Expression
    atoms: tuple[Atom, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WayOut:
    """A way out with its bindings in place."""

    formula: Formula
    output: Output
    expression: Expression
    shapes: Shapes


def ways_out(manifest: Manifest, formula: Formula) -> Iterator[WayOut]:
    """Every release, send, verify and disclose of a formula."""
    known = bindings_of(formula)
    shapes = Shapes(manifest, formula)
    for statement in formula.statements:
        if isinstance(statement, Output):
            expression = expand(statement.expression, known)
            yield WayOut(formula=formula, output=statement, expression=expression, shapes=shapes)


def revealed(line: WayOut) -> Iterator[Value]:
    """The secret-bearing values that leave with a line."""
    for expression in _cores(line.expression):
        yield Value(
            formula=line.formula,
            line=line.output.line,
            expression=expression,
            atoms=line.shapes.atoms(expression),
        )


def _cores(expression: Expression) -> Iterator[Expression]:
    """The secret-bearing values that anybody who sees the expression's value knows."""
    # 1.
    if not secrets_in(expression):
        return
    # 2.
    if isinstance(expression, Call) and expression.function in ONE_WAY:
        yield expression
    elif isinstance(expression, Call) and expression.function == "xor":
        left, right = expression.arguments
        # 3. SCRAM's proof: ClientKey xor ClientSignature (RFC 5802 section 3). It tells neither of them while
        # neither is known from elsewhere, and rule 6 of approve.py keeps both in.
        if secrets_in(left) and secrets_in(right):
            yield expression
        else:
            yield from _cores(left)
            yield from _cores(right)
    elif isinstance(expression, Call) and expression.function == "equal":
        # 4. One bit about a value that the caller brings: a MAC is not found by trying.
        return
    else:
        # 5.
        for child in children(expression):
            yield from _cores(child)


def inner_values(line: WayOut) -> Iterator[Value]:
    """The secret-bearing one-way values that another one-way function or an xor uses: derived keys."""
    for node in walk(line.expression):
        if isinstance(node, Call) and (node.function in ONE_WAY or node.function == "xor"):
            for argument in node.arguments:
                for inner in _one_way_parts(argument):
                    atoms = line.shapes.atoms(inner)
                    yield Value(formula=line.formula, line=line.output.line, expression=inner, atoms=atoms)


def _one_way_parts(expression: Expression) -> Iterator[Call]:
    for node in walk(expression):
        if isinstance(node, Call) and node.function in ONE_WAY and secrets_in(node):
            yield node


def share_secret(one: Value, two: Value) -> bool:
    """Whether two values depend on one field. Fields are taken as independent of each other."""
    return not secrets_in(one.expression).isdisjoint(secrets_in(two.expression))


def secrets_in(expression: Expression) -> set[str]:
    """The names of the confidential fields in an expression whose bindings are in place."""
    return {node.name for node in walk(expression) if isinstance(node, Confidential)}
