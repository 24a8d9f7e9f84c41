"""Canonical JSON: one value, one sequence of bytes.

Rules (RFC 8785, JSON Canonicalization Scheme):
- no white space; members sorted by the UTF-16 code units of their names (section 3.2.3);
- strings escape only what must be escaped, and are not normalized (section 3.2.2.2);
- numbers are integers of at most 53 bits (RFC 7493, I-JSON, section 2.2). Floats are refused: an entry has no
  use for one, and printing them is the one part of the scheme that implementations get wrong;
- lone surrogates, names that are not strings and values of any other type are refused.

What an entry means is left to `ostiary.work.entry`.
"""

from __future__ import annotations

from typing import TypeAlias, cast

import msgspec

from ostiary.errors import BadInput

__all__ = ["JSON", "MAX_INTEGER", "canonical"]

JSON: TypeAlias = "bool | int | str | list[JSON] | dict[str, JSON] | None"

MAX_INTEGER = 2**53 - 1
# Far more than an entry needs; it keeps a hostile value from exhausting the stack, here or in msgspec.
_MAX_DEPTH = 32

# msgspec prints exactly what RFC 8785 asks of strings and integers (a test compares every character with the
# standard library's encoder), seven times as fast; it only sorts by code points, which differs from UTF-16
# order for names that are not ASCII: those are sorted here.
_encode_sorting = msgspec.json.Encoder(order="sorted").encode
_encode_in_order = msgspec.json.Encoder().encode


def canonical(value: JSON) -> bytes:
    """Encode a value as UTF-8 canonical JSON; raises BadInput for what JSON of this kind cannot say."""
    try:
        # ASCII names, that is every entry of ours, sort alike by code points and by UTF-16 units.
        if _has_only_ascii_names(value, 0):
            return _encode_sorting(value)
        return _encode_in_order(_sorted_by_utf16(value))
    except UnicodeEncodeError as exc:
        raise BadInput("a string holds a lone surrogate, which has no UTF-8 form") from exc


def _has_only_ascii_names(value: JSON, depth: int) -> bool:
    """Check types and ranges on the way; exact types, so that no subclass brings its own printing."""
    kind = type(value)
    # `is`, not isinstance: bool is a subclass of int, and a str of somebody else's may print as it likes.
    if kind is str or kind is bool or value is None:
        return True
    if kind is int:
        _check_integer(cast("int", value))
        return True
    if depth >= _MAX_DEPTH:
        raise BadInput(f"the value is nested deeper than {_MAX_DEPTH} levels")
    if kind is dict:
        return _check_members(cast("dict[str, JSON]", value), depth)
    if kind is list:
        # Collected first: every element must be checked, also after the first False.
        ascii_only = [_has_only_ascii_names(item, depth + 1) for item in cast("list[JSON]", value)]
        return all(ascii_only)
    raise BadInput(
        f"a value of type {kind.__name__!r} has no canonical form; wanted null, bool, int, str, list or dict"
    )


def _check_members(members: dict[str, JSON], depth: int) -> bool:
    ascii_only = True
    for name, item in members.items():
        if type(name) is not str:
            raise BadInput(f"a member's name is of type {type(name).__name__!r}; wanted a string")
        if not name.isascii():
            ascii_only = False
        # Strings are most of what entries hold; one comparison saves the call.
        if type(item) is not str and not _has_only_ascii_names(item, depth + 1):
            ascii_only = False
    return ascii_only


def _check_integer(value: int) -> None:
    if not -MAX_INTEGER <= value <= MAX_INTEGER:
        raise BadInput("an integer needs more than 53 bits; write it as a string")


def _sorted_by_utf16(value: JSON) -> JSON:
    if isinstance(value, dict):
        return {name: _sorted_by_utf16(value[name]) for name in sorted(value, key=_utf16)}
    if isinstance(value, list):
        return [_sorted_by_utf16(item) for item in value]
    return value


# Big-endian, so that comparing bytes is comparing units. A lone surrogate passes here, and is refused by the
# encoder.
def _utf16(name: str) -> bytes:
    return name.encode("utf-16-be", "surrogatepass")
