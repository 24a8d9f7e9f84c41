r"""Regular expressions small enough to reason about: matched in linear time, with an alphabet that a check can ask for.

Rules:
- A pattern always means the whole text. There are no anchors, flags, back references, look-around or lazy quantifiers.
- Syntax: literals, `[classes]`, `.` (all but line ends), `( )`, `|`, `* + ? {n} {n,m} {n,}`, escapes `\d \n \r \t \xHH` and of
  punctuation. A line end matches only where the pattern names it.
- Linear by construction: after a variable repeat the next character must lie outside it, repeats do not nest, and inside
  a group alternatives begin with different characters; so a match never has two ways to go on (one-unambiguous
  expressions, Brüggemann-Klein and Wood 1998).
- What runs is printed from what was analysed, never the text as it came.

Leaves to others: limits on the length of the matched text (`types.py`).
"""

from __future__ import annotations

import functools
import operator
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ostiary.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_PATTERN_CHARS = 512
MAX_REPEAT = 65_536
_MAX_DEPTH = 6
_ASCII = 128

NON_ASCII = 1 << _ASCII
ANY = (1 << (_ASCII + 1)) - 1
LINE_ENDS = (1 << ord("\n")) | (1 << ord("\r"))
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t"}
_DIGITS = sum(1 << ord(digit) for digit in "0123456789")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Class:
    mask: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Repeat:
    item: _Node
    lo: int
    hi: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Concat:
    items: tuple[_Node, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Branch:
    options: tuple[_Node, ...]


_Node = _Class | _Repeat | _Concat | _Branch


@dataclass(frozen=True, slots=True, kw_only=True)
class SafePattern:
    """A checked pattern: `alphabet` and `first` are sets of characters as bits (bit 128 = every non-ASCII
    one).

    Widths count characters; `max_width` None means unbounded.
    """

    text: str
    alphabet: int
    first: int
    min_width: int
    max_width: int | None
    compiled: re.Pattern[str] = field(compare=False, repr=False)

    def matches(self, value: str) -> bool:
        """Whether the pattern describes the whole of `value`."""
        return self.compiled.fullmatch(value) is not None

    @property
    def fixed_width(self) -> bool:
        return self.min_width == self.max_width


def parse_pattern(text: str) -> SafePattern:
    """`text` as a checked pattern; BadInput says what is not allowed, and why."""
    if not 0 < len(text) <= MAX_PATTERN_CHARS:
        raise BadInput(f"a pattern must have 1 to {MAX_PATTERN_CHARS} characters")
    node = _Parser(text).parse()
    # Alternatives at the top are tried once each; only inside a group could they multiply.
    for option in node.options if isinstance(node, _Branch) else (node,):
        _check(option, 0, text)
    lo, hi = _widths(node)
    return SafePattern(
        text=text,
        alphabet=_alphabet(node),
        first=_first(node),
        min_width=lo,
        max_width=hi,
        compiled=re.compile(_print(node)),
    )


def mask_of(characters: str) -> int:
    """A set of characters as bits."""
    mask = 0
    for character in characters:
        mask |= 1 << min(ord(character), _ASCII)
    return mask


class _Parser:
    """Recursive descent over one pattern."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def parse(self) -> _Node:
        node = self._branch(0)
        if self._at < len(self._text):
            raise self._error("an unmatched ')'")
        return node

    def _error(self, what: str) -> BadInput:
        return BadInput(f"pattern {self._text!r}, character {self._at + 1}: {what}")

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _take(self) -> str:
        character = self._peek()
        if not character:
            raise self._error("it ends too early")
        self._at += 1
        return character

    def _branch(self, depth: int) -> _Node:
        if depth > _MAX_DEPTH:
            raise self._error(f"groups nest deeper than {_MAX_DEPTH}")
        options = [self._concat(depth)]
        while self._peek() == "|":
            self._at += 1
            options.append(self._concat(depth))
        return options[0] if len(options) == 1 else _Branch(options=tuple(options))

    def _concat(self, depth: int) -> _Node:
        items: list[_Node] = []
        while self._peek() not in {"", "|", ")"}:
            items.append(self._quantified(self._atom(depth)))
        return items[0] if len(items) == 1 else _Concat(items=tuple(items))

    def _atom(self, depth: int) -> _Node:
        character = self._take()
        if character == "(":
            if self._peek() == "?":
                raise self._error("groups with '(?' (look-around, flags, names) are not offered")
            node = self._branch(depth + 1)
            if self._take() != ")":
                raise self._error("a group is not closed")
            return node
        if character == "[":
            return _Class(mask=self._class())
        if character == ".":
            return _Class(mask=ANY & ~LINE_ENDS)
        if character == "\\":
            return _Class(mask=self._escape())
        if character in "*+?{}]^$":
            raise self._error(
                f"a bare {character!r} (write '\\{character}' for the character; patterns are anchored anyway)"
            )
        return _Class(mask=self._literal(character))

    def _quantified(self, item: _Node) -> _Node:
        character = self._peek()
        if character not in {"*", "+", "?", "{"}:
            return item
        self._at += 1
        lo, hi = {"*": (0, None), "+": (1, None), "?": (0, 1)}.get(character) or self._counts()
        if self._peek() in {"*", "+", "?", "{"}:
            raise self._error("two quantifiers in a row")
        return _Repeat(item=item, lo=lo, hi=hi)

    def _counts(self) -> tuple[int, int | None]:
        match = re.compile(r"([0-9]{1,5})(,([0-9]{1,5})?)?\}").match(self._text, self._at)
        if match is None:
            raise self._error("a count must be {n}, {n,m} or {n,}")
        self._at = match.end()
        lo = int(match[1])
        hi = (int(match[3]) if match[3] else None) if match[2] else lo
        if lo > MAX_REPEAT or (hi is not None and not 1 <= hi <= MAX_REPEAT) or (hi is not None and hi < lo):
            raise self._error("a count is out of order or range")
        return lo, hi

    def _class(self) -> int:
        negated = self._peek() == "^"
        self._at += negated
        mask = 0
        while self._peek() != "]":
            low = self._class_character()
            if self._peek() == "-" and self._text[self._at + 1 : self._at + 2] != "]":
                self._at += 1
                mask |= self._range(low, self._class_character())
            else:
                mask |= low
        self._at += 1
        if not mask:
            raise self._error("an empty class")
        return ANY & ~LINE_ENDS & ~mask if negated else mask

    def _range(self, low: int, high: int) -> int:
        if low.bit_count() != 1 or high.bit_count() != 1 or low > high:
            raise self._error("a range out of order")
        return (high << 1) - low

    def _class_character(self) -> int:
        character = self._take()
        if character == "[":
            raise self._error("a bare '[' in a class (write '\\[')")
        return self._escape() if character == "\\" else self._literal(character)

    def _escape(self) -> int:
        character = self._take()
        if character == "d":
            return _DIGITS
        if character == "x":
            code = self._text[self._at : self._at + 2]
            if re.fullmatch(r"[0-7][0-9a-fA-F]", code) is None:
                raise self._error("'\\x' takes two hex digits up to 7f")
            self._at += 2
            return 1 << int(code, 16)
        if character.isalnum() and character not in _ESCAPES:
            raise self._error(f"the escape '\\{character}' is not offered")
        return self._literal(_ESCAPES.get(character, character))

    def _literal(self, character: str) -> int:
        if ord(character) >= _ASCII:
            raise self._error("a character outside ASCII (use a negated class to allow such)")
        return 1 << ord(character)


def _check(node: _Node, follow: int, text: str) -> None:
    """That matching `node`, with `follow` the characters that may come after it, never has a choice."""
    match node:
        case _Class():
            return
        case _Concat(items=items):
            for item in reversed(items):
                _check(item, follow, text)
                follow = _first(item) | (follow if _nullable(item) else 0)
        case _Branch(options=options):
            _check_options(options, follow, text)
        case _Repeat():
            _check_repeat(node, follow, text)


def _check_options(options: tuple[_Node, ...], follow: int, text: str) -> None:
    seen = follow if any(_nullable(option) for option in options) else 0
    for option in options:
        if seen & _first(option):
            raise BadInput(
                f"pattern {text!r}: alternatives inside a group must begin with different characters"
            )
        seen |= _first(option)
        _check(option, follow, text)


def _check_repeat(node: _Repeat, follow: int, text: str) -> None:
    if _nullable(node.item):
        raise BadInput(f"pattern {text!r}: what is repeated may not be empty")
    if node.hi != 1 and _has_variable(node.item):
        raise BadInput(
            f"pattern {text!r}: quantifiers may not nest (list the characters in one class instead)"
        )
    first = _first(node.item)
    if node.lo != node.hi and first & follow:
        raise BadInput(f"pattern {text!r}: what follows a repeat must begin with a character outside it")
    _check(node.item, follow | (first if node.hi != 1 else 0), text)


def _has_variable(node: _Node) -> bool:
    match node:
        case _Class():
            return False
        case _Concat(items=items) | _Branch(options=items):
            return any(_has_variable(item) for item in items)
        case _Repeat(item=item, lo=lo, hi=hi):
            return lo != hi or _has_variable(item)


def _nullable(node: _Node) -> bool:
    return _widths(node)[0] == 0


def _first(node: _Node) -> int:
    match node:
        case _Class(mask=mask):
            return mask
        case _Repeat(item=item):
            return _first(item)
        case _Branch(options=options):
            return _union(_first(option) for option in options)
        case _Concat(items=items):
            mask = 0
            for item in items:
                mask |= _first(item)
                if not _nullable(item):
                    break
            return mask


def _alphabet(node: _Node) -> int:
    match node:
        case _Class(mask=mask):
            return mask
        case _Repeat(item=item):
            return _alphabet(item)
        case _Concat(items=items) | _Branch(options=items):
            return _union(_alphabet(item) for item in items)


def _union(masks: Iterable[int]) -> int:
    return functools.reduce(operator.or_, masks, 0)


def _widths(node: _Node) -> tuple[int, int | None]:
    match node:
        case _Class():
            return 1, 1
        case _Repeat(item=item, lo=lo, hi=hi):
            low, high = _widths(item)
            return low * lo, None if hi is None or high is None else high * hi
        case _Concat(items=items):
            pairs = [_widths(item) for item in items]
            return sum(low for low, _ in pairs), _sum_or_none([high for _, high in pairs])
        case _Branch(options=options):
            pairs = [_widths(option) for option in options]
            highs = [high for _, high in pairs]
            return min(low for low, _ in pairs), None if None in highs else max(
                high for high in highs if high is not None
            )


def _sum_or_none(values: list[int | None]) -> int | None:
    return None if None in values else sum(value for value in values if value is not None)


def _print(node: _Node) -> str:
    match node:
        case _Class(mask=mask):
            return _print_class(mask)
        case _Repeat(item=item, lo=lo, hi=hi):
            return f"(?:{_print(item)}){{{lo},{'' if hi is None else hi}}}"
        case _Concat(items=items):
            return "".join(
                f"(?:{_print(item)})" if isinstance(item, _Branch) else _print(item) for item in items
            )
        case _Branch(options=options):
            return "|".join(_print(option) for option in options)


def _print_class(mask: int) -> str:
    negated = bool(mask & NON_ASCII)
    bits = ~mask if negated else mask
    members = "".join(f"\\x{code:02x}" for code in range(_ASCII) if bits >> code & 1)
    if negated and not members:
        return r"[\x00-\U0010ffff]"
    return f"[{'^' if negated else ''}{members}]"
