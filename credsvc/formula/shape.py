"""The shape of what a formula computes: a message as a row of atoms, each with an alphabet and a width.

Rules:
- `expand` puts bindings in place, so that an expression stands alone.
- An atom is a literal, a blank (a hole or a column), the rows of a join, a constant of the credential, or the
  value of a function. Alphabets are sets of characters as bits (`pattern.py`); a value of octets has the
  whole alphabet.
- Widths count characters of ASCII text and octets of anything else, and never promise too much: `lo` is never
  too large, `hi` never too small. Every answer of `compare.py` that is a proof rests on that.

The plan for one term, by what it is:
1. a literal is itself;
2. a hole has the alphabet and widths of its type, a column those of its pattern;
3. a field of the credential has those that the manifest declares;
4. a join has the alphabet of its rows and their glue, and no upper width;
5. a function has the alphabet of its output, and a width where that follows from the widths of its arguments.

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

# Octets of output: RFC 1321; FIPS 180-4 section 1, figure 1.
DIGESTS: Final = {"md5": 16, "sha1": 20, "sha256": 32, "sha512": 64}
ONE_WAY: Final = frozenset({*DIGESTS, "hmac", "pbkdf2", "sign"})
ENCODINGS: Final = frozenset({"hex", "b64", "b64url", "pct", "json"})

_HEX: Final = mask_of("0123456789abcdef")
_LETTERS: Final = mask_of("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789")
# RFC 4648 sections 4, 5 and 8; RFC 3986 section 2.3 for what `pct` leaves as it is.
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
# `types.TIME_FORMATS` from year 1000 to 9999; 9999-12-31 is 253402300799 as an epoch, 12 digits.
_TIME_WIDTHS: Final = {"date": (8, 8), "stamp": (16, 16), "iso": (20, 20), "epoch": (1, 12)}
# More characters than base64 has (66 with `=`, and a few marks): text in which anything can be said.
_FREE_CHARACTERS: Final = 72


@dataclass(frozen=True, slots=True, kw_only=True)
class Atom:
    """A piece of a message; `lo` and `hi` are its least and greatest width, `hi` None if it is unbounded."""

    source: Source
    expression: Expression
    alphabet: int
    # The characters that it can begin with.
    first: int
    lo: int
    hi: int | None
    # Of a literal.
    text: str = ""
    # Of a blank or constant that a pattern describes.
    pattern: SafePattern | None = None
    # Whether it can say anything at all, so that it does not tell one message's purpose from another's.
    is_free: bool = False
    # Whether its type leaves no room to continue a message: a time, a number, a fixed width.
    is_typed: bool = False
    # Of the rows of a join.
    rows: ListHole | None = None
    glue: str = ""
    template: tuple[Atom, ...] = ()
    # Of a function, each argument as a message of its own.
    arguments: tuple[tuple[Atom, ...], ...] = ()

    @property
    def is_settled(self) -> bool:
        """Whether a reader knows its width: it is fixed, or the credential's and not the caller's."""
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
            # 2.
            case Hole():
                return self._blank(expression)
            case Column(name=name):
                return _patterned("blank", expression, _column_pattern(rows, name))
            # 4.
            case Call(function="join"):
                return self._rows(expression)
            # 5.
            case Call():
                return self._value(expression, rows)
            case _:
                return self._constant(expression)

    def _constant(self, expression: Expression) -> Atom:
        match expression:
            # 1.
            case Text(text=text):
                return literal(text)
            case Number(value=value):
                return literal(str(value))
            # 3.
            case Shareable(name=name):
                return _patterned("constant", expression, self._manifest.shareable[name].pattern)
            case Confidential(name=name):
                secret = self._manifest.confidential[name]
                (lo, hi), mask = secret.length, secret.alphabet.alphabet
                return Atom(source="constant", expression=expression, alphabet=mask, first=mask, lo=lo, hi=hi)
            # State is nothing that a manifest declares: it may be anything.
            case _:
                return Atom(source="constant", expression=expression, alphabet=ANY, first=ANY, lo=0, hi=None)

    def _blank(self, hole: Hole) -> Atom:
        kind = self._holes[hole.name]
        if isinstance(kind, RegexHole):
            return _patterned("blank", hole, kind.pattern)
        if isinstance(kind, ListHole):
            raise AssertionError("a list outside a join passed the check of kinds")
        mask, lo, hi = _blank_shape(kind, hole.format or "")
        # A time and a number have few texts; octets of a free length are what length extension appends.
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
            # A list that must have no key may be empty.
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
        # RFC 8259 section 7: a string begins with a quotation mark.
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
    """The atom of a text that the formula itself has."""
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
    # RFC 4648 sections 4 and 8: base64 writes four characters for three octets begun, hex two for one.
    return {"xor": size, "hex": 2 * size, "b64": (size + 2) // 3 * 4}[function]
