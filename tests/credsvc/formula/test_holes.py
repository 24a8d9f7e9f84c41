"""Proposals: names of holes, ceilings, policy context; and that a hostile value is refused by name."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from credsvc.formula.holes import check_ceiling_names, check_holes, is_match
from ostiary.errors import BadInput, Forbidden
from tests.support.manifests import build, operation

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
EPOCH = int(NOW.timestamp())
FORMULA = (
    "m = 'a' $t.epoch '|' $word '|' hex($octets) '|' $count.text '|'"
    " join('&', $rows, .name '=' hex(.value)) '|' $hash\n"
    "release x = hex(hmac(sha256, !key, m))"
)
MANIFEST = build(operation("op", FORMULA, context='["word", "count", "octets", "rows[host]", "formula"]'))
GOOD: dict[str, Any] = {
    "t": EPOCH,
    "word": "abc",
    "octets": "00ff",
    "count": 5000,
    "rows": [{"name": "a", "value": "1"}, {"name": "host", "value": "h"}],
    "hash": "0" * 64,
}


def check(
    holes: dict[str, Any], ceiling: dict[str, list[str]] | None = None, now: datetime | None = NOW
) -> Any:
    return check_holes(MANIFEST, "op", holes, operation="op", now=now, ceiling=ceiling or {})


def test_good_holes_give_values_and_context() -> None:
    filled = check(GOOD)
    assert filled.values["octets"] == b"\x00\xff"
    assert filled.values["rows"] == ((b"a", b"1"), (b"host", b"h"))
    assert filled.context == {"word": "abc", "count": 5000, "octets": "00ff", "host": "h", "formula": "op"}


def test_missing_and_surplus_holes() -> None:
    with pytest.raises(BadInput) as missing:
        check({name: value for name, value in GOOD.items() if name != "word"})
    assert missing.value.field == "holes.word"
    with pytest.raises(BadInput) as surplus:
        check({**GOOD, "evil": "x"})
    assert surplus.value.field == "holes"


def test_a_formula_of_another_operation_is_refused() -> None:
    two = build(
        operation("one", "release x = hex(hmac(sha256, !key, 'a'))"),
        operation("two", "release y = hex(hmac(sha256, !key, 'b'))"),
    )
    for operation_name, formula in (("one", "two"), ("one", "nope"), ("two", "one")):
        with pytest.raises(BadInput) as refused:
            check_holes(two, formula, {}, operation=operation_name, now=None, ceiling={})
        assert refused.value.field == "formula"


def test_without_a_clock_the_time_waits_for_the_keyholder() -> None:
    assert check({**GOOD, "t": 0}, now=None).values["t"] == 0


@pytest.mark.parametrize(
    ("ceiling", "is_inside"),
    [
        ({"word": ["abc"]}, True),
        ({"word": ["x", "a*"]}, True),
        ({"host": ["h"]}, True),
        ({"count": ["50*"]}, True),
        ({"formula": ["op"]}, True),
        ({"hash": ["0*"]}, True),
        ({"word": ["x"]}, False),
        ({"word": []}, False),
        ({"host": ["*.example"]}, False),
        ({"word": ["abc"], "host": ["x"]}, False),
        ({"unknown": ["*"]}, False),
        ({"rows": ["*"]}, False),
        ({"t": ["*"]}, False),
    ],
)
def test_ceilings(ceiling: dict[str, list[str]], is_inside: bool) -> None:
    if is_inside:
        check(GOOD, ceiling)
        return
    with pytest.raises(Forbidden) as refused:
        check(GOOD, ceiling)
    assert refused.value.rule == "ceiling"


def test_a_formula_that_cannot_be_held_to_the_ceiling_is_refused() -> None:
    two = build(
        operation("one", "release x = hex(hmac(sha256, !key, 'a' $word))"),
        operation("two", "release y = hex(hmac(sha256, !key, 'b'))"),
    )
    ceiling = {"word": ["abc"]}
    check_ceiling_names(two, ceiling)
    check_holes(two, "one", {"word": "abc"}, operation="one", now=None, ceiling=ceiling)
    with pytest.raises(Forbidden):
        check_holes(two, "two", {}, operation="two", now=None, ceiling=ceiling)


def test_a_ceiling_that_cannot_hold_is_refused_when_it_is_made() -> None:
    check_ceiling_names(MANIFEST, {"word": ["a*"], "host": ["*"]})
    wrong: list[dict[str, list[str]]] = [
        {"words": ["a"]},
        {"word": []},
        {"rows": ["a"]},
        {"word": [""]},
        {"t": ["*"]},
    ]
    for bad in wrong:
        with pytest.raises(BadInput) as refused:
            check_ceiling_names(MANIFEST, bad)
        assert refused.value.field == f"ceiling.{next(iter(bad))}"


@pytest.mark.parametrize(
    ("pattern", "value", "matches"),
    [
        ("a", "a", True),
        ("a", "ab", False),
        ("*", "", True),
        ("a*b*c", "a-b-b-c", True),
        ("a*b*c", "acb", False),
        ("ab*ba", "aba", False),
        ("*.s3.example", "b.s3.example", True),
        ("*.s3.example", "s3.example", False),
        ("a.c", "abc", False),
        ("[a]", "a", False),
    ],
)
def test_patterns_of_ceilings(pattern: str, value: str, matches: bool) -> None:
    assert is_match(pattern, value) is matches


@given(st.text(alphabet="ab*", max_size=6), st.text(alphabet="ab", max_size=8))
def test_a_ceiling_matches_as_a_regular_expression_would(pattern: str, value: str) -> None:
    import re

    expected = re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), value) is not None
    assert is_match(pattern, value) is expected


HOSTILE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["name", "value", "x"]), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(st.sampled_from(sorted(GOOD)), HOSTILE)
def test_any_value_is_taken_or_refused_by_name(hole: str, value: Any) -> None:
    try:
        check({**GOOD, hole: value})
        field = None
    except BadInput as refused:
        field = refused.field
    assert field in {None, f"holes.{hole}"}
