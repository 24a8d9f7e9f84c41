"""Hostile answers of a worker against each budget of the decoder, one thing wrong in each."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from credsvc.sandbox.client import decode
from credsvc.sandbox.client.decode import Hole, HoleProposal, RefusedAnswer, decode_proposal


def body(holes: Any, formula: Any = "f") -> bytes:
    said = {"formula": formula, "holes": holes}
    return json.dumps(said, ensure_ascii=False, separators=(",", ":")).encode()


def with_hole(raw: bytes) -> bytes:
    return b'{"formula":"f","holes":{"x":' + raw + b"}}"


def test_a_proposal_with_each_kind_of_hole() -> None:
    holes: dict[str, Hole] = {"t": 5, "text": "é\n", "rows": [{"name": "host", "value": "a"}], "none": []}
    assert decode_proposal(body(holes, "sigv4-headers")) == HoleProposal(formula="sigv4-headers", holes=holes)


REFUSED = {
    "empty": b"",
    "not JSON": b"{'formula':'f','holes':{}}",
    "a list": b"[]",
    "no holes": b'{"formula":"f"}',
    "one member more": b'{"formula":"f","holes":{},"log":"x"}',
    "the formula twice": b'{"formula":"f","formula":"g","holes":{}}',
    "a hole twice": b'{"formula":"f","holes":{"a":"1","a":"2"}}',
    "a column twice": with_hole(b'[{"a":"1","a":"2"}]'),
    "formula not text": body({}, 1),
    "formula empty": body({}, ""),
    "formula with capitals": body({}, "F"),
    "formula with a line end": body({}, "f\n"),
    "formula too long": body({}, "f" * 65),
    "holes not an object": body([]),
    "too many holes": body({f"h{number}": "" for number in range(decode.MAX_HOLES + 1)}),
    "hole name empty": body({"": "x"}),
    "hole name with a line end": body({"a\nb": "x"}),
    "hole name with a dot": body({"a.b": "x"}),
    "hole name not ASCII": body({"é": "x"}),
    "hole null": with_hole(b"null"),
    "hole true": with_hole(b"true"),
    "hole a float": with_hole(b"1.0"),
    "hole an exponent": with_hole(b"1e3"),
    "hole NaN": with_hole(b"NaN"),
    "hole -Infinity": with_hole(b"-Infinity"),
    "integer of 21 digits": with_hole(b"1" * 21),
    "hole an object": with_hole(b'{"a":"b"}'),
    "row not an object": with_hole(b'["a"]'),
    "row a list": with_hole(b"[[]]"),
    "column an integer": with_hole(b'[{"a":1}]'),
    "column a list": with_hole(b'[{"a":[]}]'),
    "too many rows": body({"x": [{}] * (decode.MAX_ROWS + 1)}),
    "too many columns": body({"x": [{f"c{number}": "" for number in range(decode.MAX_COLUMNS + 1)}]}),
    "text too long": body({"x": "a" * (decode.MAX_TEXT_CHARS + 1)}),
    "a lone surrogate": with_hole(b'"\\ud800"'),
    "a lone surrogate in a row": with_hole(b'[{"a":"\\udfff"}]'),
    "a surrogate in the bytes": with_hole(b'"\xed\xa0\x80"'),
    "an overlong form": with_hole(b'"\xc0\xaf"'),
    "not UTF-8": with_hole(b'"\xff"'),
    "a byte order mark": b"\xef\xbb\xbf" + body({}),
    "UTF-16": body({}).decode().encode("utf-16"),
    "a raw control character": with_hole(b'"\n"'),
    "something behind": body({}) + b"{}",
    "a space behind": body({}) + b" ",
    "a space between": with_hole(b' "a"'),
    "a needless escape": with_hole(b'"\\u0061"'),
    "a longer escape": with_hole(b'"\\u000a"'),
    "an escaped solidus": with_hole(b'"\\/"'),
    "minus nought": with_hole(b"-0"),
    "a leading nought": with_hole(b"01"),
    "a member twice, the other shorter": b'{"formula":"f","holes":{"a":"","a":"\\u003a"}}',
    "very deep": with_hole(b"[" * 20_000 + b"]" * 20_000),
    "many containers": with_hole(b"[" + b"{}," * 700 + b"{}]"),
    "an open text full of brackets": with_hole(b'"' + b"[" * 700),
}


@pytest.mark.parametrize("message", REFUSED.values(), ids=REFUSED)
def test_refused(message: bytes) -> None:
    with pytest.raises(RefusedAnswer) as caught:
        decode_proposal(message)
    assert str(caught.value) == ""


def test_brackets_inside_of_a_text_are_no_containers() -> None:
    text = '[{"a": "\\"[' * 200
    assert decode_proposal(body({"payload": text})).holes == {"payload": text}


@given(st.binary(max_size=200))
def test_any_bytes_are_a_proposal_or_refused(raw: bytes) -> None:
    for message in (raw, with_hole(raw)):
        try:
            proposal = decode_proposal(message)
        except RefusedAnswer:
            continue
        assert type(proposal) is HoleProposal


ROWS = st.lists(
    st.dictionaries(st.sampled_from(["name", "value"]), st.text(alphabet=st.characters(codec="utf-8"))),
    max_size=5,
)
HOLES = st.dictionaries(
    st.from_regex(r"[a-z][a-z0-9_-]{0,9}", fullmatch=True),
    st.one_of(st.text(alphabet=st.characters(codec="utf-8")), st.integers(-(10**18), 10**18), ROWS),
    max_size=6,
)


def test_members_in_another_order() -> None:
    assert decode_proposal(b'{"holes":{"x":1},"formula":"f"}') == HoleProposal(formula="f", holes={"x": 1})


def test_the_largest_numbers() -> None:
    for number in (10**20 - 1, 1 - 10**20):
        assert decode_proposal(body({"x": number})).holes == {"x": number}


@given(HOLES)
def test_what_is_well_formed_comes_out_unchanged(holes: dict[str, Any]) -> None:
    assert decode_proposal(body(holes)).holes == holes
