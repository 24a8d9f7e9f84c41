"""The notation: what parses, that printing and parsing are inverse, and that errors name their place."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from credsvc.formula.notation import (
    ALGORITHMS,
    FUNCTIONS,
    Bind,
    Binding,
    Call,
    Column,
    Concatenation,
    Confidential,
    Expression,
    Hole,
    Number,
    Output,
    Shareable,
    State,
    Statement,
    Text,
    parse_formula,
)
from ostiary.errors import BadInput
from tests.support.formula_printing import print_expression, print_formula


def test_gogrid_is_one_line() -> None:
    (output,) = parse_formula("release query.sig = hex(md5(@api_key !shared_secret $t.epoch))")
    message = Concatenation(
        terms=(Shareable(name="api_key"), Confidential(name="shared_secret"), Hole(name="t", format="epoch"))
    )
    digest = Call(function="md5", arguments=(message,))
    assert output == Output(
        kind="release", sink="query.sig", expression=Call(function="hex", arguments=(digest,))
    )
    assert output.line == 1


def test_join_columns_states_numbers_and_escapes() -> None:
    bind, _, _ = parse_formula(
        "a = join('', $h, .n ':' .v '\\n\\x00\\'\\\\')\n\n"
        "  k = pbkdf2(sha256, !pw, $s, 4096, 32)\nverify x = equal(#s, k)"
    )
    assert isinstance(bind, Bind)
    template = Concatenation(terms=(Column(name="n"), Text(text=":"), Column(name="v"), Text(text="\n\0'\\")))
    assert bind.expression == Call(function="join", arguments=(Text(text=""), Hole(name="h"), template))


def test_a_space_parts_a_hole_from_a_column() -> None:
    (first,) = parse_formula("release x = join('', $h, $t .date)")
    (second,) = parse_formula("release x = join('', $h, $t.date)")
    assert first != second


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("x", "line 1: wanted"),
        ("x = 'a'", "way out"),
        ("release y = 'a\n'", "line 1, column 13"),
        ("release y = nope", "line 1, column 13: the name 'nope'"),
        ("\nrelease y = md5('a'", "line 2, column 20: wanted ')'"),
        ("release y = md5()", "wanted a term"),
        ("release y = md5('a', 'b')", "takes 1 arguments"),
        ("release y = hmac(sha3, 'a', 'b')", "takes an algorithm as its first argument"),
        ("release y = hmac('a', 'b')", "takes an algorithm as its first argument"),
        ("release y = 'a' ) 'b'", "is unexpected here"),
        ("release y = ( 'a' )", "is unexpected here"),
        ("release y = eval('a')", "the name 'eval'"),
        ("release y = 'ü'", "unexpected character"),
        ("release y = '\\q'", "unexpected character"),
        ("release y = $T", "unexpected character"),
        ("a = a\nrelease y = a", "the name 'a' is neither bound"),
        ("a = 'x'\na = 'y'\nrelease y = a", "line 2: the name 'a' is taken"),
        ("md5 = 'x'\nrelease y = md5('a')", "taken"),
        ("release y = " + "md5(" * 30 + "'a'" + ")" * 30, "nested deeper"),
        ("release y = " + "'a' " * 600, "longer than"),
        ("a = 'x'\n" * 70, "at most 64 lines"),
    ],
)
def test_errors_name_their_place(text: str, why: str) -> None:
    with pytest.raises(BadInput, match=re.escape(why)):
        parse_formula(text)


NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,5}", fullmatch=True).filter(lambda name: name not in FUNCTIONS)
LEAVES = st.one_of(
    st.builds(Text, text=st.text(alphabet=[chr(code) for code in range(128)], max_size=8)),
    st.builds(Number, value=st.integers(0, 999_999_999)),
    st.builds(Hole, name=NAMES, format=st.none() | NAMES),
    st.builds(Shareable, name=NAMES),
    st.builds(Confidential, name=NAMES),
    st.builds(State, name=NAMES),
    st.builds(Column, name=NAMES),
    st.just(Binding(name="b")),
)


def _calls(inner: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
    def call(function: str) -> st.SearchStrategy[Expression]:
        algorithm = st.sampled_from(ALGORITHMS[function]) if function in ALGORITHMS else st.none()
        count = FUNCTIONS[function]
        arguments = st.lists(inner, min_size=count, max_size=count).map(tuple)
        return st.builds(Call, function=st.just(function), algorithm=algorithm, arguments=arguments)

    return st.sampled_from(sorted(FUNCTIONS)).flatmap(call)


def _terms(inner: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
    flat = inner.filter(lambda term: not isinstance(term, Concatenation))
    return st.lists(flat, min_size=2, max_size=4).map(lambda terms: Concatenation(terms=tuple(terms)))


EXPRESSIONS: st.SearchStrategy[Expression] = st.recursive(
    LEAVES, lambda inner: st.one_of(_calls(inner), _terms(inner)), max_leaves=10
)


@given(EXPRESSIONS)
def test_printing_then_parsing_is_identity(expression: Expression) -> None:
    statements: tuple[Statement, ...] = (
        Bind(name="b", expression=Text(text="x")),
        Output(kind="release", sink="header.x-y", expression=expression),
    )
    assert parse_formula(print_formula(statements)) == statements
    assert print_expression(expression) in print_formula(statements)


@given(st.text(alphabet="ab=$@!#.'(),\\n releasmd5hx\n", max_size=60))
def test_any_text_parses_or_is_refused(text: str) -> None:
    try:
        statements = parse_formula(text)
    except BadInput:
        return
    assert parse_formula(print_formula(statements)) == statements
