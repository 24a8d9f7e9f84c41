"""Strict JSON: what is decoded, and errors that name the member but never quote its value."""

from __future__ import annotations

import enum
import json
from typing import Annotated

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary.edge.strict_json import decode_json
from ostiary.errors import BadInput

SECRET = "hunter2-marked"


class Colour(enum.Enum):
    RED = "red"


class Inner(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    port: Annotated[int, msgspec.Meta(ge=1)]


class Outer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    inner: list[Inner] = []
    colour: Colour = Colour.RED
    table: dict[str, int] = {}


@given(name=st.text(), ports=st.lists(st.integers(min_value=1, max_value=2**63 - 1)))
def test_what_was_encoded_is_decoded(name: str, ports: list[int]) -> None:
    value = Outer(name=name, inner=[Inner(port) for port in ports])
    assert decode_json(msgspec.json.encode(value), Outer) == value


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "name"),
        ({"name": 7}, "name"),
        ({"name": "x", "extra": 1}, "extra"),
        ({"name": "x", "inner": [{"port": 1}, {"port": 0}]}, "inner[1].port"),
        ({"name": "x", "inner": [{"port": "1"}]}, "inner[0].port"),
        ({"name": "x", "inner": [{}]}, "inner[0].port"),
        ({"name": "x", "inner": [{"port": 1, "extra": 1}]}, "inner[0].extra"),
        ({"name": "x", "colour": SECRET}, "colour"),
        ({"name": "x", "table": {"a": SECRET}}, "table[...]"),
        ([], None),
    ],
)
def test_an_error_names_the_member_and_never_quotes_its_value(body: object, field: str | None) -> None:
    with pytest.raises(BadInput) as refused:
        decode_json(json.dumps(body).encode(), Outer)
    assert refused.value.field == field
    assert SECRET not in refused.value.message
    assert refused.value.message[0].islower()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"name": "x"} {}',
        b"{'name': 'x'}",
        b'{"name": NaN}',
        b"\xff\xfe",
        b'{"name": "\xff"}',
    ],
)
def test_what_is_not_json_is_refused_without_a_word_of_it(body: bytes) -> None:
    with pytest.raises(BadInput, match=r"^the body is not JSON$"):
        decode_json(body, Outer)


def test_arrays_that_nest_too_deep_are_no_json_of_ours() -> None:
    with pytest.raises(BadInput, match=r"^the body is not JSON$"):
        decode_json(b"[" * 100_000, object)
