"""How large the answer of a use can get: an upper bound from filled holes, before anything is signed.

Rules:
- The bound is of the JSON text of all that the formula releases, in bytes. It is never too small.
- It is a linear function of the sizes of holes and public fields, found once for each formula: a batch asks
  for it hundreds of times.
- No secret is needed: one that a formula releases as it is counts with the greatest length that the manifest
  allows.
- Each value has two widths: its octets, which functions multiply, and the bytes that it takes in a JSON text,
  where a quotation mark is two and a control character six (RFC 8259 section 7); the alphabet of its pattern
  says which of these it can have.

The front loads this file; no keyholder does.
"""

from __future__ import annotations

import math
from collections import Counter
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, cast

import msgspec

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
    Text,
)
from credsvc.formula.pattern import SafePattern, mask_of
from credsvc.formula.shape import DIGESTS
from credsvc.formula.types import BytesHole, IntHole, ListHole, RegexHole, TimeHole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from credsvc.formula.holes import FilledHoles
    from credsvc.formula.manifest import Formula, Manifest
    from credsvc.formula.types import Filled

# Octets of a signature: of RSA as many as the key's, and a PEM of `manifest.MAX_SECRET_CHARS` holds none of
# 8,192 bits.
_SIGNATURE: Final = 1024
# The longest of `types.TIME_FORMATS`.
_TIME: Final = 20
_WORST: Final = 6
# `"sink":"text",`
_AROUND: Final = 6
_SHORT_ESCAPES: Final = mask_of('"\\\n\r\t')
_CONTROLS: Final = mask_of("".join(map(chr, range(32)))) & ~_SHORT_ESCAPES


class _Size(NamedTuple):
    """What a line counts: the octets of a hole, of a public field or of a list's column (by its place), or
    the rows of a list. `_ONE` counts for itself.
    """

    what: Literal["one", "octets", "field", "column", "rows"]
    name: str = ""
    place: int = 0


_ONE: Final = _Size("one")
# How often each size counts.
_Line = Counter[_Size]


class _Width(NamedTuple):
    """Octets, and bytes in a JSON text."""

    octets: _Line
    quoted: _Line


def bound_release(manifest: Manifest, filled: FilledHoles, *, shareable: Mapping[str, str]) -> int:
    """Bytes that what the formula releases takes at most, as members of a JSON object."""
    values, total = filled.values, 0.0
    for size, times in _find_line(manifest, filled.formula.name):
        total += times * _count(size, values.get(size.name, b""), shareable)
    return math.ceil(total)


def _count(size: _Size, value: Filled, shareable: Mapping[str, str]) -> int:
    """How much of a size there is; `value` is the hole's."""
    if size.what == "field":
        return len(shareable.get(size.name, "").encode())
    if size.what == "column" and isinstance(value, tuple):
        return sum([len(row[size.place]) for row in value])
    if size.what in {"octets", "rows"} and not isinstance(value, int):
        return len(value)
    return 1


# By manifest (its digest) and formula, as `compile_formula`.
@lru_cache(maxsize=256)
def _find_line(manifest: Manifest, name: str) -> tuple[tuple[_Size, float], ...]:
    formula = manifest.formula(name, operation=None)
    widths = _Widths(manifest, formula)
    total: _Line = Counter()
    for statement in formula.statements:
        if isinstance(statement, Output):
            total[_ONE] += len(statement.sink) + _AROUND
            total.update(widths.of(statement.expression).quoted)
    return tuple(total.items())


class _Widths:
    """Widths of the expressions of one formula."""

    def __init__(self, manifest: Manifest, formula: Formula) -> None:
        self._manifest = manifest
        self._holes = formula.holes
        self._bound = {each.name: each.expression for each in formula.statements if isinstance(each, Bind)}

    def of(self, expression: Expression, join: Hole | None = None) -> _Width:
        """`join` is the list of the join around the expression."""
        match expression:
            case Binding(name=name):
                return self.of(self._bound[name])
            case Concatenation(terms=terms):
                return _sum(self.of(term, join) for term in terms)
            case Call(function="join"):
                return self._of_join(expression)
            case Call():
                return self._of_call(expression, join)
            case Column(name=name) if join is not None:
                columns = self._list(join).columns
                return _of_pattern(_Size("column", join.name, list(columns).index(name)), columns[name])
            case _:
                return self._of_leaf(expression)

    def _of_leaf(self, leaf: Expression) -> _Width:
        match leaf:
            case Text(text=text):
                return _Width(_fixed(len(text.encode())), _fixed(len(msgspec.json.encode(text)) - 2))
            case Hole(name=name):
                return self._of_hole(name)
            case Shareable(name=name):
                return _of_pattern(_Size("field", name), self._manifest.shareable[name].pattern)
            case Confidential(name=name):
                field = self._manifest.confidential[name]
                length = field.length[1]
                return _Width(_fixed(length), _fixed(length * _quoting(field.alphabet)))
            case _:
                # The state of a conversation, which no formula of a front's has; a count or a column in a
                # place where `kinds.py` allows none.
                raise AssertionError(f"no width of a {type(leaf).__name__}")

    def _of_hole(self, name: str) -> _Width:
        match self._holes[name]:
            case TimeHole():
                return _ascii(_fixed(_TIME))
            case IntHole(range=(_, hi)):
                return _ascii(_fixed(len(str(hi))))
            case RegexHole(pattern=pattern):
                return _of_pattern(_Size("octets", name), pattern)
            case BytesHole():
                return _of_octets(Counter({_Size("octets", name): 1}))
            case ListHole():
                raise AssertionError("a list outside of a join")

    def _of_call(self, call: Call, join: Hole | None) -> _Width:
        digest = DIGESTS.get(call.algorithm or "" if call.function == "hmac" else call.function)
        if digest is not None:
            return _of_octets(_fixed(digest))
        match call:
            case Call(function="sign"):
                return _of_octets(_fixed(_SIGNATURE))
            case Call(function="pbkdf2", arguments=(*_, Number(value=octets))):
                return _of_octets(_fixed(octets))
            case _:
                # Of one argument; of `xor` two, which are as long as each other.
                return _ENCODED[call.function](self.of(call.arguments[0], join).octets)

    def _of_join(self, call: Call) -> _Width:
        glue, source, template = call.arguments
        if not isinstance(source, Hole):
            raise AssertionError("a join over no hole")
        row = _sum([self.of(glue), self.of(template, source)])
        most = self._list(source).max_rows
        return _Width(_of_rows(row.octets, source.name, most), _of_rows(row.quoted, source.name, most))

    def _list(self, hole: Hole) -> ListHole:
        kind = self._holes[hole.name]
        if not isinstance(kind, ListHole):
            raise AssertionError("a join over no list")
        return kind


def _of_rows(row: _Line, name: str, most: int) -> _Line:
    """Of all rows of a list, at most so many, where `row` is of each."""
    total: _Line = Counter()
    for size, times in row.items():
        if size.what == "column":
            total[size] += times
        elif size == _ONE:
            total[_Size("rows", name)] += times
        else:
            # Another hole or a field, in every row: a product of two sizes would be no line.
            total[size] += most * times
    return total


def _of_pattern(size: _Size, pattern: SafePattern) -> _Width:
    return _Width(Counter({size: 1}), Counter({size: _quoting(pattern)}))


def _quoting(pattern: SafePattern) -> int:
    """Bytes that an octet of a text takes in JSON at most."""
    if pattern.alphabet & _CONTROLS:
        return _WORST
    return 2 if pattern.alphabet & _SHORT_ESCAPES else 1


def _fixed(count: int) -> _Line:
    return Counter({_ONE: count})


def _of_octets(octets: _Line) -> _Width:
    return _Width(octets, _times(octets, _WORST))


def _ascii(octets: _Line) -> _Width:
    """Letters, digits and marks that JSON leaves as they are."""
    return _Width(octets, octets)


def _times(line: _Line, factor: float) -> _Line:
    # Counters add fractions, too; their types know whole numbers only.
    return cast("_Line", Counter({size: factor * times for size, times in line.items()}))


def _sum(widths: Iterable[_Width]) -> _Width:
    octets: _Line = Counter()
    quoted: _Line = Counter()
    for each in widths:
        octets.update(each.octets)
        quoted.update(each.quoted)
    return _Width(octets, quoted)


def _base64(octets: _Line) -> _Width:
    return _ascii(_times(octets, 4 / 3) + _fixed(4))


def _json(octets: _Line) -> _Width:
    inner = _times(octets, _WORST) + _fixed(2)
    # The quotes and backslashes of the inner text are quoted once more in the outer one.
    return _Width(inner, _times(inner, 2))


# By function: of the octets of its argument.
_ENCODED: Final[Mapping[str, Callable[[_Line], _Width]]] = {
    "hex": lambda octets: _ascii(_times(octets, 2)),
    "b64": _base64,
    "b64url": _base64,
    "pct": lambda octets: _ascii(_times(octets, 3)),
    "json": _json,
    "xor": _of_octets,
}
