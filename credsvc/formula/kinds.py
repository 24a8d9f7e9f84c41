"""Names and kinds: that every name in a formula exists and every value stands where its kind fits.

The plan of `check_kinds`:
1. Every hole, format, field and column exists; a column stands inside the template of a join over its list.
2. Joins do not nest: there is one loop.
3. Counts stand only in pbkdf2, lists only in join, and neither in text.
4. `pct` and `json` take text; `hex b64 b64url`, digests, MACs and `xor` take text or octets.
5. What leaves is text: octets are encoded first. `verify` is an `equal`, and `equal` stands nowhere else.
6. With its bindings in place a formula has at most MAX_TERMS terms.
7. Sinks are named once; at most one `verify`; every binding and hole is used.

Leaves to others: what a secret may flow into (`approve.py`).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, NoReturn

from credsvc.formula.notation import (
    Bind,
    Binding,
    Call,
    Column,
    Concatenation,
    Confidential,
    Expression,
    Hole,
    Number,
    Output,
    Shareable,
    State,
    Statement,
    Text,
    walk,
)
from credsvc.formula.types import TIME_FORMATS, BytesHole, HoleType, IntHole, ListHole, RegexHole, TimeHole
from ostiary.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

# Forty lines that each double the one before are short to write and have 2**40 terms. SigV4's largest
# formula has 98; the machine's check compares pairs of messages, so its work grows with the square.
MAX_TERMS: Final = 2000

Kind = Literal["text", "octets", "count", "list", "truth"]
_PRINTABLE: tuple[Kind, Kind] = ("text", "octets")
_ENCODINGS = ("hex", "b64", "b64url")
_TEXT_ONLY = ("pct", "json")
# Function to the positions of its counts: iterations and octets.
_COUNTS = {"pbkdf2": (2, 3)}

_FORMATS: dict[tuple[type[HoleType], str | None], Kind] = {
    (RegexHole, None): "text",
    (BytesHole, None): "octets",
    (IntHole, None): "count",
    (IntHole, "text"): "text",
    (ListHole, None): "list",
    **{(TimeHole, form): "text" for form in TIME_FORMATS},
}


@dataclass(kw_only=True)
class _Scope:
    """The names that a formula may use, and those that it has used."""

    holes: Mapping[str, HoleType]
    shareable: Collection[str]
    confidential: Collection[str]
    bound: dict[str, Kind] = field(default_factory=dict)
    # Names that are bound to what holds a join.
    looping: set[str] = field(default_factory=set)
    used: set[str] = field(default_factory=set)


def check_kinds(
    statements: tuple[Statement, ...],
    *,
    holes: Mapping[str, HoleType],
    shareable: Collection[str],
    confidential: Collection[str],
) -> None:
    """Check the formula by the plan above; BadInput names line and column."""
    scope = _Scope(holes=holes, shareable=shareable, confidential=confidential)
    for statement in statements:
        kind = _kind(statement.expression, scope, None)
        if isinstance(statement, Bind):
            if kind not in _PRINTABLE:
                _fail(statement.expression, "only text and octets can be bound to a name")
            scope.bound[statement.name] = kind
            if any(
                node.function == "join" if isinstance(node, Call) else node.name in scope.looping
                for node in walk(statement.expression)
                if isinstance(node, Call | Binding)
            ):
                scope.looping.add(statement.name)
        else:
            _check_output(statement, kind)
    _check_size(statements)  # 6
    _check_used(statements, scope)  # 7


def _fail(expression: Expression, what: str) -> NoReturn:
    raise BadInput(f"{expression.at}: {what}")


# 5.
def _check_output(output: Output, kind: Kind) -> None:
    if output.kind == "verify":
        if kind != "truth":
            _fail(output.expression, "a verify must be one equal(a, b)")
    elif kind != "text":
        _fail(output.expression, f"a {output.kind} must be text; encode octets with hex, b64 or b64url")


def _check_size(statements: tuple[Statement, ...]) -> None:
    # Counted without expanding: a binding counts as what it stands for.
    sizes: dict[str, int] = {}
    for statement in statements:
        nodes = list(walk(statement.expression))
        size = len(nodes) + sum(sizes[node.name] for node in nodes if isinstance(node, Binding))
        if size > MAX_TERMS:
            raise BadInput(f"line {statement.line}: more than {MAX_TERMS} terms once its names are expanded")
        if isinstance(statement, Bind):
            sizes[statement.name] = size


def _check_used(statements: tuple[Statement, ...], scope: _Scope) -> None:
    outputs = [statement for statement in statements if isinstance(statement, Output)]
    for sink, count in Counter(output.sink for output in outputs).items():
        if count > 1:
            raise BadInput(f"the sink {sink!r} is named {count} times")
    if sum(output.kind == "verify" for output in outputs) > 1:
        raise BadInput("a formula may have one verify")
    # A hole that nothing uses would still be context for policy: it would decide on what is not signed.
    for statement in statements:
        if isinstance(statement, Bind) and statement.name not in scope.used:
            raise BadInput(f"line {statement.line}: the name {statement.name!r} is never used")
    for name in scope.holes:
        if "$" + name not in scope.used:
            raise BadInput(f"the hole {name!r} is declared and never used")


def _kind(expression: Expression, scope: _Scope, rows: ListHole | None) -> Kind:
    match expression:
        case Hole():
            return _hole_kind(expression, scope)
        case Concatenation(terms=terms):
            # 3. Text beside octets is octets: nothing downstream may take the whole for text.
            kinds = [_printable(term, scope, rows) for term in terms]
            return "octets" if "octets" in kinds else "text"
        case Call():
            return _call_kind(expression, scope, rows)
        case Binding(name=name):
            # 2. A name does not hide the loop: the machine's check reasons about one.
            if rows is not None and name in scope.looping:
                _fail(expression, f"a join inside a join, by the name {name!r}: joins do not nest")
            scope.used.add(name)
            return scope.bound[name]
        case Number():
            return "count"
        case _:
            _check_leaf(expression, scope, rows)
            return "text"


# 1.
def _check_leaf(
    leaf: Text | Column | Shareable | Confidential | State, scope: _Scope, rows: ListHole | None
) -> None:
    match leaf:
        case Column(name=name):
            if rows is None or name not in rows.columns:
                _fail(leaf, f"no enclosing list has a column {name!r}")
        case Shareable(name=name):
            if name not in scope.shareable:
                _fail(leaf, f"there is no public field {name!r}")
        case Confidential(name=name):
            if name not in scope.confidential:
                _fail(leaf, f"there is no confidential field {name!r}")
        case _:
            return


# 1, and 3: a format says what a hole is where it stands.
def _hole_kind(hole: Hole, scope: _Scope) -> Kind:
    kind = scope.holes.get(hole.name)
    if kind is None:
        _fail(hole, f"there is no hole {hole.name!r}")
    scope.used.add("$" + hole.name)
    found = _FORMATS.get((type(kind), hole.format))
    if found is None:
        offered = ", ".join(f".{form}" if form else "none" for known, form in _FORMATS if known is type(kind))
        _fail(hole, f"a hole of this type takes one of these formats: {offered}")
    return found


def _printable(expression: Expression, scope: _Scope, rows: ListHole | None) -> Kind:
    kind = _kind(expression, scope, rows)
    if kind not in _PRINTABLE:
        hint = " (an int needs .text here)" if kind == "count" else ""
        _fail(expression, f"wanted text or octets, not a {kind}{hint}")
    return kind


# 3, 4 and the rest of 5.
def _call_kind(call: Call, scope: _Scope, rows: ListHole | None) -> Kind:
    if call.function == "join":
        return _join_kind(call, scope, rows)
    counts = _COUNTS.get(call.function, ())
    for index, argument in enumerate(call.arguments):
        if index in counts:
            if _kind(argument, scope, rows) != "count":
                _fail(argument, "wanted a number or an int hole")
        elif _printable(argument, scope, rows) != "text" and call.function in _TEXT_ONLY:
            _fail(argument, f"{call.function} takes text")
    if call.function == "equal":
        return "truth"
    return "text" if call.function in (*_ENCODINGS, *_TEXT_ONLY) else "octets"


def _join_kind(call: Call, scope: _Scope, rows: ListHole | None) -> Kind:
    separator, source, template = call.arguments
    # 2.
    if rows is not None:
        _fail(call, "a join inside a join: joins do not nest")
    if not isinstance(separator, Text):
        _fail(separator, "the separator of a join must be a literal")
    kind = scope.holes.get(source.name) if isinstance(source, Hole) else None
    if not isinstance(kind, ListHole) or _kind(source, scope, None) != "list":
        _fail(source, "a join must run over a list hole")
    return _printable(template, scope, kind)
