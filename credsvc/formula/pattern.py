r"""Regular expressions that are small enough to reason about: matched in linear time, with an alphabet that
a check can ask for.

Rules:
- A pattern describes the whole text. There are no anchors, flags, back references, look-around or lazy
  quantifiers.
- Syntax: literals, `[classes]`, `.` (all but line ends), `( )`, `|`, `* + ? {n} {n,m} {n,}`, escapes
  `\d \n \r \t \xHH` and of punctuation. A line end matches only where the pattern names it.
- Linear by construction: no match ever has two ways to go on. The plan, checked while a pattern is read:
  1. what is repeated is never empty;
  2. repeats do not nest: what is repeated more than once holds no repeat of a variable count;
  3. alternatives inside a group begin with different characters;
  4. what follows a repeat, or an optional part, begins with a character outside it.
- What runs is printed from what was analysed, never the text as it came.

The plan makes an expression one-unambiguous (Brüggemann-Klein and Wood, "One-Unambiguous Regular Languages",
Information and Computation 140, 1998): its Glushkov automaton is deterministic. Python's `re` backtracks, and
on such expressions has nothing to go back to.

Leaves to others: limits on the length of the matched text (`types.py`).
"""

from __future__ import annotations

import functools
import operator
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from ostiary.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Iterable

# One pattern is read by a person who approves it: half a kilobyte is more than the longest that any provider
# needed (the payload of S3's streaming uploads, 160 characters).
MAX_PATTERN_CHARS: Final = 512
# Python's `re` refuses counts from 2**32 - 1 on; no hole takes more than types.MAX_LIST_CHARS characters.
MAX_REPEAT: Final = 65_536
# The reader recurses once a group; far below Python's limit of 1,000 frames.
_MAX_DEPTH: Final = 6
_ASCII: Final = 128

# A set of characters is an int: bit n for the character n of ASCII, bit 128 for all others together. Union,
# intersection and complement are then `|`, `&` and `~`, and a set is as cheap to keep as a number.
NON_ASCII: Final = 1 << _ASCII
ANY: Final = (1 << (_ASCII + 1)) - 1
LINE_ENDS: Final = (1 << ord("\n")) | (1 << ord("\r"))
_ESCAPES: Final = {"n": "\n", "r": "\r", "t": "\t"}
_DIGITS: Final = sum(1 << ord(digit) for digit in "0123456789")
_QUANTIFIERS: Final = frozenset("*+?{")
_COUNTS: Final = re.compile(r"([0-9]{1,5})(,([0-9]{1,5})?)?\}")


class SafePattern:
    """A checked pattern: `alphabet` and `first` are sets of characters as bits (bit 128 = every non-ASCII
    one).

    Widths count characters; `max_width` None means unbounded.
    """

    __slots__ = ("alphabet", "compiled", "first", "max_width", "min_width", "text")

    def __init__(self, text: str) -> None:
        """Read `text`; BadInput says what is not allowed, and why."""
        if not 0 < len(text) <= MAX_PATTERN_CHARS:
            raise BadInput(f"a pattern must have 1 to {MAX_PATTERN_CHARS} characters")
        node = _Parser(text).parse()
        self.text = text
        self.alphabet = node.alphabet
        self.first = node.first
        self.min_width = node.lo
        self.max_width = node.hi
        self.compiled = re.compile(node.source)

    def matches(self, value: str) -> bool:
        """Whether the pattern describes the whole of `value`."""
        return self.compiled.fullmatch(value) is not None

    @property
    def fixed_width(self) -> bool:
        """Whether all texts that match have one length."""
        return self.min_width == self.max_width


def mask_of(characters: str) -> int:
    """A set of characters as bits."""
    mask = 0
    for character in characters:
        mask |= 1 << min(ord(character), _ASCII)
    return mask


@dataclass(frozen=True, slots=True, kw_only=True)
class _Node:
    """A part of a pattern with what the plan asks of it: Glushkov's sets, by characters instead of positions.

    `first` is what a match begins with, `clash` what may not come next, because the part itself could still
    take it. Every attribute follows from those of the parts below.
    """

    source: str
    alphabet: int
    first: int
    clash: int
    lo: int
    hi: int | None
    # Whether it holds a repeat of a variable count (plan, 2).
    varies: bool
    # Whether it is a choice of alternatives that begin alike (plan, 3).
    overlaps: bool = False


_EMPTY: Final = _Node(source="", alphabet=0, first=0, clash=0, lo=0, hi=0, varies=False)


def _one_of(mask: int) -> _Node:
    return _Node(source=_class_source(mask), alphabet=mask, first=mask, clash=0, lo=1, hi=1, varies=False)


def _class_source(mask: int) -> str:
    negated = bool(mask & NON_ASCII)
    bits = ~mask if negated else mask
    # Hex throughout: no character needs a thought about what it means inside a class.
    members = "".join(f"\\x{code:02x}" for code in range(_ASCII) if bits >> code & 1)
    if negated and not members:
        return r"[\x00-\U0010ffff]"
    return f"[{'^' if negated else ''}{members}]"


def _union(masks: Iterable[int]) -> int:
    return functools.reduce(operator.or_, masks, 0)


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
            raise self._error("unexpected end")
        self._at += 1
        return character

    def _branch(self, depth: int) -> _Node:
        if depth > _MAX_DEPTH:
            raise self._error(f"groups nest deeper than {_MAX_DEPTH}")
        options = [self._concat(depth)]
        while self._peek() == "|":
            self._at += 1
            options.append(self._concat(depth))
        return options[0] if len(options) == 1 else self._either(options)

    def _either(self, options: list[_Node]) -> _Node:
        self._check_parts(*options)
        first, overlaps = 0, False
        for option in options:
            overlaps = overlaps or bool(first & option.first)
            first |= option.first
        highs = [option.hi for option in options]
        return _Node(
            source="|".join(option.source for option in options),
            alphabet=_union(option.alphabet for option in options),
            first=first,
            # 4. If one of them can be empty, all stand between what came and what follows.
            clash=_union(option.clash for option in options)
            | (first if any(option.lo == 0 for option in options) else 0),
            lo=min(option.lo for option in options),
            hi=None if None in highs else max(hi for hi in highs if hi is not None),
            varies=any(option.varies for option in options),
            overlaps=overlaps,
        )

    def _check_parts(self, *parts: _Node) -> None:
        # 3. At the top the alternatives may overlap: they are tried once each, and cost no more than their
        # number; as a part of something, the tries would multiply.
        if any(part.overlaps for part in parts):
            raise self._error("alternatives inside a group must begin with different characters")

    def _concat(self, depth: int) -> _Node:
        node: _Node | None = None
        while self._peek() not in {"", "|", ")"}:
            item = self._quantified(self._atom(depth))
            node = item if node is None else self._then(node, item)
        return node or _EMPTY

    def _then(self, one: _Node, two: _Node) -> _Node:
        self._check_parts(one, two)
        # 4.
        if one.clash & two.first:
            raise self._error(
                "what follows a repeat or an optional part must begin with a character outside it"
            )
        return _Node(
            source=one.source + two.source,
            alphabet=one.alphabet | two.alphabet,
            first=one.first | (0 if one.lo else two.first),
            clash=two.clash | (0 if two.lo else one.clash),
            lo=one.lo + two.lo,
            hi=None if one.hi is None or two.hi is None else one.hi + two.hi,
            varies=one.varies or two.varies,
        )

    def _atom(self, depth: int) -> _Node:
        character = self._take()
        if character == "(":
            return self._group(depth)
        if character == "[":
            return _one_of(self._class())
        if character == ".":
            return _one_of(ANY & ~LINE_ENDS)
        if character == "\\":
            return _one_of(self._escape())
        if character in "*+?{}]^$":
            raise self._error(
                f"a bare {character!r} (write '\\{character}' for the character; no anchor is needed)"
            )
        return _one_of(self._literal(character))

    def _group(self, depth: int) -> _Node:
        if self._peek() == "?":
            raise self._error("groups with '(?' (look-around, flags, names) are not offered")
        node = self._branch(depth + 1)
        if self._take() != ")":
            raise self._error("a group is not closed")
        return replace(node, source=f"(?:{node.source})")

    def _quantified(self, item: _Node) -> _Node:
        character = self._peek()
        if character not in _QUANTIFIERS:
            return item
        self._at += 1
        lo, hi = {"*": (0, None), "+": (1, None), "?": (0, 1)}.get(character) or self._counts()
        if self._peek() in _QUANTIFIERS:
            raise self._error("two quantifiers in a row")
        return self._repeat(item, lo, hi)

    def _repeat(self, item: _Node, lo: int, hi: int | None) -> _Node:
        self._check_parts(item)
        # 1.
        if item.lo == 0:
            raise self._error("what is repeated may not be empty")
        # 2.
        if hi != 1 and item.varies:
            raise self._error("quantifiers may not nest (list the characters in one class instead)")
        # 4, between one turn and the next.
        if hi != 1 and item.clash & item.first:
            raise self._error("what is repeated must begin with a character outside its own end")
        return _Node(
            source=f"(?:{item.source}){{{lo},{'' if hi is None else hi}}}",
            alphabet=item.alphabet,
            first=item.first,
            clash=item.clash | (item.first if lo != hi else 0),
            lo=item.lo * lo,
            hi=None if hi is None or item.hi is None else item.hi * hi,
            varies=lo != hi or item.varies,
        )

    def _counts(self) -> tuple[int, int | None]:
        match = _COUNTS.match(self._text, self._at)
        if match is None:
            raise self._error("a count must be {n}, {n,m} or {n,}")
        self._at = match.end()
        lo = int(match[1])
        hi = (int(match[3]) if match[3] else None) if match[2] else lo
        if lo > MAX_REPEAT or (hi is not None and not max(lo, 1) <= hi <= MAX_REPEAT):
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
        # `[^ ]` must not let a line end in by not naming it: header values are written so.
        return ANY & ~LINE_ENDS & ~mask if negated else mask

    def _range(self, low: int, high: int) -> int:
        if low.bit_count() != 1 or high.bit_count() != 1 or low > high:
            raise self._error("a range out of order")
        # All bits from low's to high's: 2**(h+1) - 2**l.
        return (high << 1) - low

    def _class_character(self) -> int:
        character = self._take()
        if character == "[":
            raise self._error("a bare '[' in a class (write '\\[')")
        return self._escape() if character == "\\" else self._literal(character)

    def _escape(self) -> int:
        character = self._take()
        if character == "d":
            # ASCII only; `\d` of Python's `re` takes every digit of Unicode.
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
