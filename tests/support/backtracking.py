"""A matcher that goes back as Python's `re` does, and counts: how often a character of the text is looked at.

It reads what `re` parsed, so it counts for what runs. It knows no lazy quantifiers, anchors or references,
which no pattern of ours has.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from re import _constants as codes  # type: ignore[attr-defined] # how `re` names its own parts
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

_Node = tuple[Any, Any]


def steps_of(pattern: str, text: str) -> int:
    """How many looks at characters it takes to find out whether a pattern is the whole of `text`."""
    looks = itertools.count()
    any(end == len(text) for end in _ways(list(parser.parse(pattern)), text, 0, looks))
    return next(looks)


def _ways(nodes: Sequence[_Node], text: str, at: int, looks: Iterator[int]) -> Iterator[int]:
    """Where a sequence can end, in the order in which `re` tries it."""
    if not nodes:
        yield at
        return
    for end in _one(nodes[0], text, at, looks):
        yield from _ways(nodes[1:], text, end, looks)


def _one(node: _Node, text: str, at: int, looks: Iterator[int]) -> Iterator[int]:
    code, argument = node
    if code is codes.SUBPATTERN:
        yield from _ways(list(argument[-1]), text, at, looks)
    elif code is codes.BRANCH:
        for option in argument[1]:
            yield from _ways(list(option), text, at, looks)
    elif code is codes.MAX_REPEAT:
        least, most, repeated = argument
        yield from _repeat(least, most, list(repeated), text, at, looks)
    else:
        next(looks)
        if at < len(text) and _takes(code, argument, text[at]):
            yield at + 1


def _repeat(
    least: int, most: Any, nodes: Sequence[_Node], text: str, at: int, looks: Iterator[int]
) -> Iterator[int]:
    if most is codes.MAXREPEAT or most > 0:
        fewer = most if most is codes.MAXREPEAT else most - 1
        for end in _ways(nodes, text, at, looks):
            yield from _repeat(max(0, least - 1), fewer, nodes, text, end, looks)
    if least == 0:
        yield at


def _takes(code: Any, argument: Any, character: str) -> bool:
    if code is codes.ANY:
        return character != "\n"
    if code is codes.LITERAL:
        return bool(argument == ord(character))
    if code is codes.NOT_LITERAL:
        return bool(argument != ord(character))
    if code is codes.IN:
        negated = argument[0][0] is codes.NEGATE
        return negated != any(_takes(part, wanted, character) for part, wanted in argument[negated:])
    if code is codes.RANGE:
        return bool(argument[0] <= ord(character) <= argument[1])
    raise re.error(f"{code} is not counted")
