"""Read a worker's answer: hostile bytes in, a checked `HoleProposal` or `RefusedAnswer` out.

Budgets are looked at before work is done on what they bound:
 1. length of the record (frames), and the number of brackets outside of texts: bounds containers and depth
 2. strict UTF-8, no byte order mark, JSON only; no duplicate member, no float, no NaN, integers of at most 20
    digits
 3. exactly the members `formula` and `holes`, each of its exact type
 4. names are short and plain; texts are bounded and hold no lone surrogate
 5. a hole is text, an integer, or rows of text columns

What texts may contain (control characters, case, duplicates in a list) is the hole's type in the manifest:
this file knows no manifest, and whoever uses the proposal checks it against one (`credsvc.formula.holes`).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Final, NoReturn

__all__ = ["Hole", "HoleProposal", "RefusedAnswer", "decode_proposal"]

Hole = str | int | list[dict[str, str]]

# 256 rows, the holes and the answer, with room; json.loads makes each container before anything here can
# count.
MAX_CONTAINERS: Final = 600
MAX_HOLES: Final = 64
MAX_ROWS: Final = 256
MAX_COLUMNS: Final = 8
MAX_TEXT_CHARS: Final = 32 * 1024
MAX_DIGITS: Final = 20

_NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_TEXT_IN_JSON: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)


class RefusedAnswer(Exception):
    """The worker's answer is not a proposal of holes; says nothing about what it was, since that is hostile
    text.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class HoleProposal:
    """What a module proposes: the formula's name and values for its holes. Bounded and well formed, not yet
    checked.
    """

    formula: str
    holes: dict[str, Hole]


def decode_proposal(body: bytes) -> HoleProposal:
    """Decode the body of a DONE answer; raises `RefusedAnswer`."""
    _check_containers(body)  # 1.
    answer = _parse(body)  # 2.
    # 3. Exactly the two members.
    if type(answer) is not dict or answer.keys() != {"formula", "holes"}:
        raise RefusedAnswer
    formula, holes = answer["formula"], answer["holes"]
    # 4. and 5. on each part; `type(...) is` throughout, since json makes nothing but exact types.
    if type(formula) is not str or not _NAME.fullmatch(formula):
        raise RefusedAnswer
    if type(holes) is not dict or len(holes) > MAX_HOLES:
        raise RefusedAnswer
    return HoleProposal(formula=formula, holes={_name(name): _hole(value) for name, value in holes.items()})


def _check_containers(body: bytes) -> None:
    """Budget 1. Texts may hold brackets (a JSON payload): they are taken out only when the plain count is
    over.
    """
    if _brackets(body) > MAX_CONTAINERS and _brackets(_TEXT_IN_JSON.sub(b"", body)) > MAX_CONTAINERS:
        raise RefusedAnswer


def _brackets(body: bytes) -> int:
    return body.count(b"[") + body.count(b"{")


def _parse(body: bytes) -> object:
    """Budget 2."""
    try:
        # json.loads of bytes would guess UTF-16 and UTF-32 too, and take a byte order mark: so text goes in.
        return json.loads(
            body.decode("utf-8"),
            object_pairs_hook=_members,
            parse_int=_integer,
            parse_float=_refuse,
            parse_constant=_refuse,
        )
    except (ValueError, RecursionError) as exc:
        raise RefusedAnswer from exc


def _members(pairs: list[tuple[str, object]]) -> dict[str, object]:
    # Of a member that stands twice parsers take the first or the last (RFC 8259 section 4); both are refused.
    members = dict(pairs)
    if len(members) != len(pairs):
        raise RefusedAnswer
    return members


def _integer(digits: str) -> int:
    # Before int(): its work grows with the square of the digits (CVE-2020-10735).
    if len(digits) > MAX_DIGITS:
        raise RefusedAnswer
    return int(digits)


def _refuse(_literal: str) -> NoReturn:
    raise RefusedAnswer


def _hole(value: object) -> Hole:
    """Budget 5; `type(...) is` keeps bool out of int."""
    if type(value) is str:
        return _text(value)
    if type(value) is int:
        return value
    if type(value) is list and len(value) <= MAX_ROWS:
        return [_row(row) for row in value]
    raise RefusedAnswer


def _row(row: object) -> dict[str, str]:
    if type(row) is not dict or len(row) > MAX_COLUMNS:
        raise RefusedAnswer
    return {_name(column): _text(value) for column, value in row.items()}


def _name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise RefusedAnswer
    return name


def _text(value: object) -> str:
    if type(value) is not str or len(value) > MAX_TEXT_CHARS:
        raise RefusedAnswer
    if not value.isascii():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as exc:  # a lone surrogate, written as an escape
            raise RefusedAnswer from exc
    return value
