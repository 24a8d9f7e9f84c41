"""Safe patterns: what they match, what they refuse, and that hostile text costs linear time."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from credsvc.formula.pattern import NON_ASCII, SafePattern, mask_of
from ostiary.errors import BadInput
from tests.support.backtracking import steps_of


@pytest.mark.parametrize(
    ("pattern", "good", "bad"),
    [
        (
            r"[0-9a-f]{64}|UNSIGNED-PAYLOAD",
            ["0" * 64, "UNSIGNED-PAYLOAD"],
            ["0" * 63, "UNSIGNED", "", "0" * 64 + "\n"],
        ),
        (r"[a-z0-9-]{1,5}", ["a", "a-b-9"], ["", "abcdef", "A", "a\n"]),
        (r"GET|PUT|POST", ["GET", "POST"], ["GETPUT", "get"]),
        (r"[!-+\--~]+", ["a+b", "-~"], ["a,b", ""]),
        (r".*", ["", "ü x"], ["a\nb", "\r"]),
        (r"[^ ]*", ["aü"], ["a b", "\n"]),
        (r"[a-z]+(:[0-9]{1,5})?", ["host", "host:443"], ["host:", ":1"]),
        (r"a\.b\\\d\x41[\n]", ["a.b\\7A\n"], ["axb\\7A\n"]),
        (r"(ab){2}c", ["ababc"], ["abc"]),
        (r"x(a|b|)y", ["xay", "xy"], ["xaby"]),
    ],
)
def test_matches_the_whole_text(pattern: str, good: list[str], bad: list[str]) -> None:
    safe = SafePattern(pattern)
    assert [text for text in good if not safe.matches(text)] == []
    assert [text for text in bad if safe.matches(text)] == []


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("(a+)+", "nest"),
        ("([a-z]*)*", "empty"),
        ("(a|a)+", "different characters"),
        ("(a|ab)*", "different characters"),
        ("a*a*", "outside it"),
        ("a?a?a?aaa", "outside it"),
        ("[a-z]*[a-z0-9]", "outside it"),
        ("x*(y?)x*", "outside it"),
        ("(a|b?)b", "outside it"),
        (r"(a)\1", "escape"),
        ("(?=a)", "look-around"),
        ("(?i)a", "look-around"),
        ("^a$", "bare"),
        ("a+?", "two quantifiers"),
        ("a{2,1}", "count"),
        ("a{99999}", "count"),
        ("a{,3}", "count"),
        ("[z-a]", "range"),
        ("[]", "empty class"),
        ("[a", "unexpected end"),
        ("(a", "unexpected end"),
        ("a)", "unmatched"),
        ("ü", "outside ASCII"),
        (r"\w", "escape"),
        ("((((((((a))))))))", "deeper"),
        ("", "1 to 512"),
        ("a" * 513, "1 to 512"),
    ],
)
def test_refuses_what_it_cannot_bound(pattern: str, why: str) -> None:
    with pytest.raises(BadInput, match=re.escape(why)):
        SafePattern(pattern)


def test_alphabet_first_and_widths() -> None:
    safe = SafePattern(r"a?[bc]{2}(d|ee)")
    assert safe.alphabet == mask_of("abcde")
    assert safe.first == mask_of("abc")
    assert (safe.min_width, safe.max_width, safe.fixed_width) == (3, 5, False)
    assert SafePattern("[0-9]{8}").fixed_width
    assert SafePattern("[a-z]+").max_width is None
    assert SafePattern("[^a]").alphabet & NON_ASCII


ATOMS = st.sampled_from(
    ["a", "b", "[ab]", "[^a]", ".", "c{2}", "a*", "b+", "a?", "(a|b)", "(ab|c)*", "(b|)", "c{1,3}"]
)


@given(st.lists(ATOMS, min_size=1, max_size=5), st.text(alphabet="abcd\n", max_size=8))
def test_agrees_with_the_standard_library(atoms: list[str], text: str) -> None:
    """Where a pattern is accepted, it means what Python's `re` means by it."""
    pattern = "".join(atoms)
    try:
        safe = SafePattern(pattern)
    except BadInput:
        return
    expected = re.fullmatch(pattern.replace(".", "[^\\n\\r]").replace("[^a]", "[^a\\n\\r]"), text) is not None
    assert safe.matches(text) == expected
    if expected:
        assert safe.min_width <= len(text)
        assert safe.max_width is None or len(text) <= safe.max_width
        assert all(mask_of(character) & safe.alphabet for character in text)
        assert not text or mask_of(text[0]) & safe.first


HOSTILE = ["[a-z0-9-]*", "(ab)*c", "[a-z]+(:[0-9]{1,5})?", "(a|b)*c"]


@pytest.mark.parametrize("pattern", HOSTILE)
def test_hostile_text_costs_no_more_steps_than_it_has_characters(pattern: str) -> None:
    safe = SafePattern(pattern)
    text = "ab" * 40 + "!"
    assert steps_of(safe.compiled.pattern, text) <= len(pattern) * len(text)
    assert not safe.matches("ab" * 30_000 + "!")


@given(st.lists(ATOMS, min_size=1, max_size=5), st.text(alphabet="abc", max_size=40))
def test_what_is_accepted_never_tries_twice(atoms: list[str], text: str) -> None:
    try:
        safe = SafePattern("".join(atoms))
    except BadInput:
        return
    assert steps_of(safe.compiled.pattern, text + "!") <= 4 * len(atoms) * (len(text) + 1)


@pytest.mark.parametrize("pattern", ["(?:a|a)*c", "(?:a+)+c", "(?:a|aa)*c"])
def test_steps_are_many_where_a_match_has_a_choice(pattern: str) -> None:
    """What `SafePattern` refuses, counted in the same way."""
    assert steps_of(pattern, "a" * 16 + "!") > 1000 * len(pattern)
