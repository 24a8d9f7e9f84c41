"""The shape of what a formula computes: a message as atoms with alphabets and widths, and what follows from
those.

Rules:
- `expand` puts bindings in place, so that an expression stands alone.
- An atom is a literal, a blank (a hole or a column), the rows of a join, a constant of the credential, or the
  value of a function. Alphabets are sets of characters as bits (`pattern.py`); a value of octets has the
  whole alphabet.
- Widths count characters of ASCII text and octets of anything else, and never promise too much.

Leaves to others: what follows from shapes (`compare.py`), which of it matters (`approve.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

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
    Shareable,
    Text,
)
from credsvc.formula.pattern import ANY, NON_ASCII, SafePattern, mask_of
from credsvc.formula.types import BytesHole, IntHole, ListHole, RegexHole, TimeHole

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from credsvc.formula.manifest import Formula, Manifest

Source = Literal["literal", "blank", "rows", "constant", "value"]

DIGESTS: Final = {"md5": 16, "sha1": 20, "sha256": 32, "sha512": 64}
ONE_WAY: Final = frozenset({*DIGESTS, "hmac", "pbkdf2", "sign"})
ENCODINGS: Final = frozenset({"hex", "b64", "b64url", "pct", "json"})

_HEX: Final = mask_of("0123456789abcdef")
_LETTERS: Final = mask_of("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789")
_ALPHABETS: Final = {
    "hex": _HEX,
    "b64": _LETTERS | mask_of("+/="),
    "b64url": _LETTERS | mask_of("-_"),
    "pct": _LETTERS | mask_of("-._~%"),
    "json": ANY,
}
_TIME_ALPHABETS: Final = {
    "date": "0123456789",
    "stamp": "0123456789TZ",
    "iso": "0123456789-T:Z",
    "epoch": "0123456789",
}
_TIME_WIDTHS: Final = {"date": (8, 8), "stamp": (16, 16), "iso": (20, 20), "epoch": (1, 12)}
# More characters than base64 and a few: text in which anything can be said.
_FREE_CHARACTERS: Final = 72


@dataclass(frozen=True, slots=True, kw_only=True)
class Atom:
    """A piece of a message. `lo` and `hi` are its width in characters (octets for a value), `hi` None
    unbounded.
    """

    source: Source
    expression: Expression
    alphabet: int
    first: int
    lo: int
    hi: int | None
    text: str = ""
    pattern: SafePattern | None = None
    is_free: bool = False
    is_typed: bool = False
    rows: ListHole | None = None
    glue: str = ""
    template: tuple[Atom, ...] = ()
    arguments: tuple[tuple[Atom, ...], ...] = ()

    @property
    def is_settled(self) -> bool:
        """Whether a reader knows its width: fixed, or not in the caller's hands."""
        return self.lo == self.hi or self.source == "constant"


def bindings_of(formula: Formula) -> dict[str, Expression]:
    """Every binding of the formula, expanded."""
    known: dict[str, Expression] = {}
    for statement in formula.statements:
        if isinstance(statement, Bind):
            known[statement.name] = expand(statement.expression, known)
    return known


def expand(expression: Expression, known: Mapping[str, Expression]) -> Expression:
    """The expression with `known` bindings in place and concatenations flat."""
    match expression:
        case Binding(name=name):
            return known[name]
        case Call(arguments=arguments):
            return replace(expression, arguments=tuple(expand(argument, known) for argument in arguments))
        case Concatenation(terms=terms):
            flat: list[Expression] = []
            for term in terms:
                inner = expand(term, known)
                flat.extend(inner.terms if isinstance(inner, Concatenation) else [inner])
            return replace(expression, terms=tuple(flat))
        case _:
            return expression


class Shapes:
    """Atoms of expressions of one formula."""

    def __init__(self, manifest: Manifest, formula: Formula) -> None:
        self._manifest = manifest
        self._holes = formula.holes

    def atoms(self, expression: Expression, rows: ListHole | None = None) -> tuple[Atom, ...]:
        """The pieces of an expanded expression, neighbouring literals joined, empty ones left out."""
        terms = expression.terms if isinstance(expression, Concatenation) else (expression,)
        result: list[Atom] = []
        for atom in (self._atom(term, rows) for term in terms):
            if atom.source == "literal" and result and result[-1].source == "literal":
                result[-1] = literal(result[-1].text + atom.text)
            elif atom.source != "literal" or atom.text:
                result.append(atom)
        return tuple(result)

    def _atom(self, expression: Expression, rows: ListHole | None) -> Atom:
        match expression:
            case Hole():
                return self._blank(expression)
            case Column(name=name):
                return _patterned("blank", expression, _column_pattern(rows, name))
            case Call(function="join"):
                return self._rows(expression)
            case Call():
                return self._value(expression, rows)
            case _:
                return self._constant(expression)

    def _constant(self, expression: Expression) -> Atom:
        match expression:
            case Text(text=text):
                return literal(text)
            case Number(value=value):
                return literal(str(value))
            case Shareable(name=name):
                return _patterned("constant", expression, self._manifest.shareable[name].pattern)
            case Confidential(name=name):
                secret = self._manifest.confidential[name]
                (lo, hi), mask = secret.length, secret.alphabet.alphabet
                return Atom(source="constant", expression=expression, alphabet=mask, first=mask, lo=lo, hi=hi)
            case _:
                return Atom(source="constant", expression=expression, alphabet=ANY, first=ANY, lo=0, hi=None)

    def _blank(self, hole: Hole) -> Atom:
        kind = self._holes[hole.name]
        if isinstance(kind, RegexHole):
            return _patterned("blank", hole, kind.pattern)
        if isinstance(kind, ListHole):
            raise AssertionError("a list outside a join passed the check of kinds")
        mask, lo, hi = _blank_shape(kind, hole.format or "")
        is_typed = not isinstance(kind, BytesHole) or lo == hi
        return Atom(
            source="blank", expression=hole, alphabet=mask, first=mask, lo=lo, hi=hi, is_typed=is_typed
        )

    def _rows(self, call: Call) -> Atom:
        glue, source, template = call.arguments
        kind = self._holes[source.name] if isinstance(source, Hole) else None
        if not isinstance(kind, ListHole) or not isinstance(glue, Text):
            raise AssertionError("a join that is none passed the check of kinds")
        atoms = self.atoms(template, kind)
        mask = mask_of(glue.text)
        for atom in atoms:
            mask |= atom.alphabet
        return Atom(
            source="rows",
            expression=call,
            alphabet=mask,
            first=first_of(atoms) or mask_of(glue.text),
            lo=sum(atom.lo for atom in atoms) if kind.must else 0,
            hi=None,
            is_free=any(atom.is_free for atom in atoms[:1]),
            rows=kind,
            glue=glue.text,
            template=atoms,
        )

    def _value(self, call: Call, rows: ListHole | None) -> Atom:
        mask = _ALPHABETS.get(call.function, ANY)
        lo, hi = self._width(call, rows)
        first = mask_of('"') if call.function == "json" else mask
        arguments = tuple(self.atoms(argument, rows) for argument in call.arguments)
        return Atom(
            source="value", expression=call, alphabet=mask, first=first, lo=lo, hi=hi, arguments=arguments
        )

    def _width(self, call: Call, rows: ListHole | None) -> tuple[int, int | None]:
        function, arguments = call.function, call.arguments
        if function in DIGESTS:
            return DIGESTS[function], DIGESTS[function]
        if function == "hmac":
            return DIGESTS[call.algorithm or ""], DIGESTS[call.algorithm or ""]
        if function == "pbkdf2" and isinstance(arguments[3], Number):
            return arguments[3].value, arguments[3].value
        if function in {"xor", "hex", "b64"}:
            return _encoded(function, *total_width(self.atoms(arguments[0], rows)))
        return 0, None


def first_of(atoms: Sequence[Atom]) -> int:
    """The characters with which the pieces can begin; 0 for no pieces."""
    mask = 0
    for atom in atoms:
        mask |= atom.first
        if atom.lo > 0:
            break
    return mask


def total_width(atoms: Sequence[Atom]) -> tuple[int, int | None]:
    """The least and the greatest width of the pieces together."""
    highs = [atom.hi for atom in atoms]
    return sum(atom.lo for atom in atoms), None if None in highs else sum(
        hi for hi in highs if hi is not None
    )


def literal(text: str) -> Atom:
    return Atom(
        source="literal",
        expression=Text(text=text),
        alphabet=mask_of(text),
        first=mask_of(text[:1]),
        lo=len(text),
        hi=len(text),
        text=text,
        is_typed=True,
    )


def _patterned(source: Source, expression: Expression, pattern: SafePattern) -> Atom:
    return Atom(
        source=source,
        expression=expression,
        alphabet=pattern.alphabet,
        first=pattern.first,
        lo=pattern.min_width,
        # A character outside ASCII is up to four octets of UTF-8.
        hi=None if pattern.alphabet & NON_ASCII else pattern.max_width,
        pattern=pattern,
        is_free=pattern.alphabet.bit_count() >= _FREE_CHARACTERS,
        is_typed=pattern.fixed_width and not pattern.alphabet & NON_ASCII,
    )


def _column_pattern(rows: ListHole | None, name: str) -> SafePattern:
    if rows is None:
        raise AssertionError("a column outside its list passed the check of kinds")
    return rows.columns[name]


def _blank_shape(kind: TimeHole | IntHole | BytesHole, form: str) -> tuple[int, int, int]:
    if isinstance(kind, TimeHole):
        return mask_of(_TIME_ALPHABETS[form]), *_TIME_WIDTHS[form]
    if isinstance(kind, IntHole):
        return mask_of("0123456789"), len(str(kind.range[0])), len(str(kind.range[1]))
    return ANY, *kind.length


def _encoded(function: str, lo: int, hi: int | None) -> tuple[int, int | None]:
    return _scaled(function, lo), None if hi is None else _scaled(function, hi)


def _scaled(function: str, size: int) -> int:
    return {"xor": size, "hex": 2 * size, "b64": (size + 2) // 3 * 4}[function]
