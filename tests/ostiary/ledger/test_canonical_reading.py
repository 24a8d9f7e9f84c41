"""Reading canonical JSON: what was printed comes back, and every other spelling is refused."""

from __future__ import annotations

import pytest
from hypothesis import given

from ostiary.errors import BadInput
from ostiary.ledger.canonical import JSON, canonical
from ostiary.ledger.canonical_reading import parse_canonical
from tests.support.json_values import VALUES


@pytest.mark.parametrize(
    "data",
    [
        b'{"a":1, "b":2}',
        b'{"b":2,"a":1}',
        b'{"a":1,"a":1}',
        b'{"a":"\\u0041"}',
        b'{"a":"\\/"}',
        b'{"a":1.0}',
        b'{"a":1e2}',
        b'{"a":-0}',
        b'{"a":NaN}',
        b'{"a":"\xff"}',
        b'{"a":"\\ud800"}',
        b'\xef\xbb\xbf{"a":1}',
        b"",
        b"{",
        b'{"a":' + b"9" * 5000 + b"}",
    ],
)
def test_parsing_refuses_what_is_not_canonical(data: bytes) -> None:
    with pytest.raises(BadInput):
        parse_canonical(data)


@given(VALUES)
def test_parsing_what_was_printed_gives_the_value(value: JSON) -> None:
    assert parse_canonical(canonical(value)) == value


def test_deep_nesting_is_refused_without_running_out_of_stack() -> None:
    with pytest.raises(BadInput):
        parse_canonical(b"[" * 100_000 + b"]" * 100_000)
