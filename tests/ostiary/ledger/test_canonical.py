"""Canonical JSON: the vectors of RFC 8785 first, then what this subset refuses, then properties."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from ostiary.errors import BadInput
from ostiary.ledger.canonical import JSON, canonical
from tests.support.json_values import VALUES

VECTORS = json.loads((Path(__file__).parent / "vectors" / "rfc8785.json").read_text())["cases"]


@pytest.mark.parametrize("case", VECTORS, ids=lambda case: case["name"])
def test_published_vectors(case: dict[str, str]) -> None:
    assert canonical(json.loads(case["input"])) == case["output"].encode()


def test_names_are_sorted_by_utf16_units_also_below_lists() -> None:
    value: JSON = [{"\ufb33": 1, "\U0001f602": {"\ufb33": 1, "\U0001f602": 2}}]
    assert canonical(value) == '[{"\U0001f602":{"\U0001f602":2,"\ufb33":1},"\ufb33":1}]'.encode()


def test_every_control_character_has_the_escape_of_the_rfc() -> None:
    short = {8: "\\b", 9: "\\t", 10: "\\n", 12: "\\f", 13: "\\r"}
    for code in range(0x20):
        escape = short.get(code, f"\\u{code:04x}")
        assert canonical(chr(code)).decode() == f'"{escape}"'
    assert canonical("\x7f\u2028") == '"\x7f\u2028"'.encode()


def test_every_character_is_printed_as_the_standard_library_does() -> None:
    plain = json.JSONEncoder(ensure_ascii=False).encode
    for first in range(0, sys.maxunicode + 1, 0x800):
        block = "".join(map(chr, range(first, first + 0x800)))
        if first != 0xD800:  # the surrogates
            assert canonical([block]) == f"[{plain(block)}]".encode()
            assert canonical({block: 1}) == f"{{{plain(block)}:1}}".encode()


class _Text(str):
    __slots__ = ()


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (1.0, "float"),
        (float("nan"), "float"),
        ({"a": [{"b": 2.5}]}, "float"),
        ({"\u00f6": "x", "b": 2.5}, "float"),
        ([{"\u00f6": 1}, 2.5], "float"),
        (2**53, "53 bits"),
        (-(2**53), "53 bits"),
        ({1: "x"}, "name"),
        ({None: "x"}, "name"),
        ((1, 2), "tuple"),
        (b"x", "bytes"),
        (_Text("x"), "_Text"),
        ("\ud800", "surrogate"),
        ({"\ud800": 1}, "surrogate"),
    ],
)
def test_refuses(value: Any, why: str) -> None:
    with pytest.raises(BadInput, match=why):
        canonical(value)


def test_refuses_deep_nesting_without_running_out_of_stack() -> None:
    value: JSON = []
    for _ in range(10_000):
        value = [value]
    with pytest.raises(BadInput, match="nested"):
        canonical(value)


@given(VALUES)
def test_the_order_of_members_does_not_matter(value: JSON) -> None:
    def reverse(item: JSON) -> JSON:
        if isinstance(item, dict):
            return {name: reverse(item[name]) for name in reversed(item)}
        return [reverse(each) for each in item] if isinstance(item, list) else item

    assert canonical(reverse(value)) == canonical(value)
