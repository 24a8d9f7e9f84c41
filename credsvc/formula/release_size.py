"""How large the answer of a use can get: an upper bound from filled holes, before anything is signed.

Rules:
- The bound is of the JSON text of all that the formula releases, in bytes. It is never too small.
- No secret is needed: one that a formula releases as it is counts with the greatest length that the manifest
  allows.
- Each value has two widths: its octets, which functions multiply, and the bytes that it takes in a JSON text,
  where a quotation mark is two and a control character six (RFC 8259 section 7).

The front loads this file; no keyholder does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

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
from credsvc.formula.shape import DIGESTS
from credsvc.formula.types import BytesHole, ListHole, TimeHole

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from credsvc.formula.holes import FilledHoles
    from credsvc.formula.manifest import Manifest

# Octets of a signature: of RSA as many as the key's, and a PEM of `manifest.MAX_SECRET_CHARS` holds none of
# 8,192 bits.
_SIGNATURE: Final = 1024
# The longest of `types.TIME_FORMATS`.
_TIME: Final = 20
_WORST: Final = 6
# `"sink":"text",`
_AROUND: Final = 6


class _Width(NamedTuple):
    """Octets, and bytes in a JSON text."""

    octets: int
    quoted: int


def bound_release(manifest: Manifest, filled: FilledHoles, *, shareable: Mapping[str, str]) -> int:
    """Bytes that what the formula releases takes at most, as members of a JSON object."""
    widths = _Widths(manifest, filled, shareable)
    return sum(
        len(statement.sink) + _AROUND + widths.of(statement.expression).quoted
        for statement in filled.formula.statements
        if isinstance(statement, Output)
    )


class _Widths:
    """Widths of the expressions of one formula with its holes filled."""

    def __init__(self, manifest: Manifest, filled: FilledHoles, shareable: Mapping[str, str]) -> None:
        self._manifest = manifest
        self._filled = filled
        self._shareable = shareable
        self._bound = {
            each.name: each.expression for each in filled.formula.statements if isinstance(each, Bind)
        }

    def of(self, expression: Expression, row: Mapping[str, bytes] | None = None) -> _Width:
        """`row` is that of the join around the expression."""
        match expression:
            case Binding(name=name):
                return self.of(self._bound[name])
            case Concatenation(terms=terms):
                return _sum([self.of(term, row) for term in terms])
            case Call(function="join"):
                return self._of_join(expression)
            case Call():
                return self._of_call(expression, row)
            case Column(name=name) if row is not None:
                return _of_text(row[name].decode())
            case _:
                return self._of_leaf(expression)

    def _of_leaf(self, leaf: Expression) -> _Width:
        match leaf:
            case Text(text=text):
                return _of_text(text)
            case Hole(name=name):
                return self._of_hole(name)
            case Shareable(name=name):
                return _of_text(self._shareable.get(name, ""))
            case Confidential(name=name):
                return _of_octets(self._manifest.confidential[name].length[1])
            case _:
                # The state of a conversation, which no formula of a front's has; a count or a column in a
                # place where `kinds.py` allows none.
                raise AssertionError(f"no width of a {type(leaf).__name__}")

    def _of_hole(self, name: str) -> _Width:
        value = self._filled.values[name]
        kind = self._filled.formula.holes[name]
        if isinstance(kind, TimeHole):
            return _Width(_TIME, _TIME)
        if isinstance(value, bytes):
            return _of_octets(len(value)) if isinstance(kind, BytesHole) else _of_text(value.decode())
        return _of_text(str(value))

    def _of_call(self, call: Call, row: Mapping[str, bytes] | None) -> _Width:
        digest = DIGESTS.get(call.algorithm or "" if call.function == "hmac" else call.function)
        if digest is not None:
            return _of_octets(digest)
        match call:
            case Call(function="sign"):
                return _of_octets(_SIGNATURE)
            case Call(function="pbkdf2", arguments=(*_, Number(value=octets))):
                return _of_octets(octets)
            case _:
                encode = _ENCODED[call.function]
                return encode(max(self.of(argument, row).octets for argument in call.arguments))

    def _of_join(self, call: Call) -> _Width:
        glue, hole, template = call.arguments
        if not isinstance(hole, Hole):
            raise AssertionError("a join that is not over a hole")
        rows = self._filled.values[hole.name]
        kind = self._filled.formula.holes[hole.name]
        if not isinstance(rows, tuple) or not isinstance(kind, ListHole):
            raise AssertionError("a join that is not over a list")
        inner = [self.of(template, dict(zip(kind.columns, each, strict=True))) for each in rows]
        return _sum([self.of(glue)] * len(rows) + inner)


def _of_text(text: str) -> _Width:
    return _Width(len(text.encode()), len(msgspec.json.encode(text)) - 2)


def _of_octets(count: int) -> _Width:
    return _Width(count, _WORST * count)


def _ascii(count: int) -> _Width:
    """Letters, digits and marks that JSON leaves as they are."""
    return _Width(count, count)


# By function: of the octets of its longest argument.
_ENCODED: Final[Mapping[str, Callable[[int], _Width]]] = {
    "hex": lambda octets: _ascii(2 * octets),
    "b64": lambda octets: _ascii(4 * ((octets + 2) // 3)),
    "b64url": lambda octets: _ascii(4 * ((octets + 2) // 3)),
    "pct": lambda octets: _ascii(3 * octets),
    # Quoted inside, and the quotes and backslashes of that once more outside.
    "json": lambda octets: _Width(_WORST * octets + 2, 2 * (_WORST * octets + 2)),
    "xor": _of_octets,
}


def _sum(widths: list[_Width]) -> _Width:
    return _Width(sum(each.octets for each in widths), sum(each.quoted for each in widths))
