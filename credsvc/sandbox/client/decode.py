"""Read a worker's answer: hostile bytes in, a checked `HoleProposal` or `RefusedAnswer` out.

Budgets are looked at before work is done on what they bound:
 1. length of the record (frames), and the number of brackets outside of texts: bounds containers
 2. strict UTF-8, no byte order mark, JSON only; exactly the members `formula` and `holes`, each of its exact
    type: a hole is text, an integer, or rows of text columns; no float, no NaN, no lone surrogate; numbers of
    holes, rows and columns and lengths of texts are bounded
 3. the shortest JSON of what it says, member order aside: so no member twice, no space, no needless escape
 4. names are short and plain, integers of at most 20 digits

What texts may contain (control characters, case, duplicates in a list) is the hole's type in the manifest:
this file knows no manifest, and whoever uses the proposal checks it against one (`credsvc.formula.holes`).
"""

from __future__ import annotations

import re
from typing import Annotated, Final

import msgspec

__all__ = ["Hole", "HoleProposal", "RefusedAnswer", "decode_proposal"]

# 256 rows, the holes and the answer, with room.
MAX_CONTAINERS: Final = 600
MAX_HOLES: Final = 64
MAX_ROWS: Final = 256
MAX_COLUMNS: Final = 8
MAX_TEXT_CHARS: Final = 32 * 1024
MAX_DIGITS: Final = 20

_NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_TEXT_IN_JSON: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)

_Text = Annotated[str, msgspec.Meta(max_length=MAX_TEXT_CHARS)]
_Row = Annotated[dict[str, _Text], msgspec.Meta(max_length=MAX_COLUMNS)]
Hole = _Text | int | Annotated[list[_Row], msgspec.Meta(max_length=MAX_ROWS)]


class RefusedAnswer(Exception):
    """The worker's answer is not a proposal of holes; says nothing about what it was, since that is hostile
    text.
    """


class HoleProposal(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a module proposes: the formula's name and values for its holes. Bounded and well formed, not yet
    checked.
    """

    formula: str
    holes: Annotated[dict[str, Hole], msgspec.Meta(max_length=MAX_HOLES)]


_decoder: Final = msgspec.json.Decoder(HoleProposal)
_encoder: Final = msgspec.json.Encoder()


def decode_proposal(body: bytes) -> HoleProposal:
    """Decode the body of a DONE answer; raises `RefusedAnswer`."""
    _check_containers(body)  # 1.
    try:
        proposal = _decoder.decode(body)  # 2.
        shortest = _encoder.encode(proposal)
    except (msgspec.MsgspecError, ValueError, OverflowError):
        raise RefusedAnswer from None  # whose text would quote the answer
    # 3. Each value has one shortest form, and a member that stands twice (RFC 8259 section 4: parsers take
    # the first or the last) makes the answer longer: so the lengths are equal in this case only.
    if len(shortest) != len(body):
        raise RefusedAnswer
    _check_parts(proposal)  # 4.
    return proposal


def _check_containers(body: bytes) -> None:
    """Budget 1. Texts may hold brackets (a JSON payload): they are taken out only when the plain count is
    over.
    """
    if _brackets(body) > MAX_CONTAINERS and _brackets(_TEXT_IN_JSON.sub(b"", body)) > MAX_CONTAINERS:
        raise RefusedAnswer


def _brackets(body: bytes) -> int:
    return body.count(b"[") + body.count(b"{")


def _check_parts(proposal: HoleProposal) -> None:
    """Budget 4."""
    names = {proposal.formula, *proposal.holes}
    for value in proposal.holes.values():
        if type(value) is list:
            names.update(*value)
        elif type(value) is int and abs(value) >= 10**MAX_DIGITS:
            raise RefusedAnswer
    if not all(map(_NAME.fullmatch, names)):
        raise RefusedAnswer
