"""Names and kinds in formulas: one thing wrong at a time, and the message that says so."""

from __future__ import annotations

import re

import pytest

from ostiary.errors import BadInput
from tests.support.manifests import build, operation

KINDS = [
    ("release x = $nope", "no hole 'nope'"),
    ("release x = @nope", "no public field 'nope'"),
    ("release x = hex(!nope)", "no confidential field 'nope'"),
    ("release x = .name", "no enclosing list"),
    ("release x = join('', $rows, .nope)", "no enclosing list"),
    ("release x = join('', $word, .name)", "must run over a list"),
    ("release x = join($word, $rows, .name)", "separator of a join must be a literal"),
    ("release x = join('', $rows, join('', $rows, .name))", "joins do not nest"),
    (
        "n = join('', $rows, .name)\nrelease x = join('', $rows, .name n)",
        "by the name 'n': joins do not nest",
    ),
    (
        "n = join('', $rows, .name)\nm = 'a' n\nrelease x = join('', $rows, m)",
        "by the name 'm': joins do not nest",
    ),
    ("release x = $rows", "must be text"),
    ("release x = 'a' $rows", "not a list"),
    ("release x = $t", "takes one of these formats: .date"),
    ("release x = $word.date", "formats: none"),
    ("release x = 'a' $count", "an int needs .text"),
    ("release x = $octets", "encode octets"),
    ("release x = sha256('a')", "encode octets"),
    ("release x = pct(sha256('a'))", "pct takes text"),
    ("release x = json($octets)", "json takes text"),
    ("release x = hex(pbkdf2(sha256, !key, 'a', 'b', 32))", "wanted a number"),
    ("release x = hex(pbkdf2(sha256, !key, 7, 4096, 32))", "not a count"),
    ("release x = hex(equal('a', 'b'))", "not a truth"),
    ("release x = equal('a', 'b')", "must be text"),
    ("verify x = 'a'", "one equal(a, b)"),
    ("verify x = equal('a', 'b')\nverify y = equal('a', 'b')", "one verify"),
    ("a = 7\nrelease x = 'a'", "only text and octets"),
    ("a = 'b'\nrelease x = 'a'", "never used"),
    ("release x = 'a'\nrelease x = 'b'", "named 2 times"),
]


@pytest.mark.parametrize(("formula", "why"), KINDS, ids=[formula for formula, _ in KINDS])
def test_names_and_kinds(formula: str, why: str) -> None:
    with pytest.raises(BadInput, match=re.escape(why)):
        build(operation("op", formula))


def test_a_hole_without_use_is_refused() -> None:
    with pytest.raises(BadInput, match="declared and never used"):
        build(operation("op", "release x = 'a'") + 'holes.word = { type = "regex", pattern = "a" }\n')


def test_an_error_names_line_and_column() -> None:
    with pytest.raises(BadInput, match="line 2, column 16: there is no hole 'nope'"):
        build(operation("op", "release x = 'a'\nrelease y ='a' $nope"))


def test_a_chain_of_doublings_is_refused_unexpanded() -> None:
    """Forty lines that stand for 2**40 terms: to count them one by one would take hours."""
    chain = "a0 = 'x'\n" + "".join(f"a{n + 1} = a{n} a{n}\n" for n in range(40)) + "release x = a40"
    with pytest.raises(BadInput, match="more than 2000 terms"):
        build(operation("op", chain))
