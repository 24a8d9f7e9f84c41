"""What leaves with a release and what stays inside, on formulas whose answer is known."""

from __future__ import annotations

import pytest

from credsvc.formula.notation import Call
from credsvc.formula.secrecy import Value, inner_values, revealed, share_secret, ways_out
from tests.support.manifests import KEY, SECRET, build, operation

FIELDS = KEY + SECRET


def lines_of(formula: str) -> tuple[list[Value], list[Value]]:
    """The values that a formula reveals, and those that it keeps inside."""
    manifest = build(operation("op", formula), fields=FIELDS)
    lines = list(ways_out(manifest, manifest.formulas["op"]))
    shown = [value for line in lines for value in revealed(line)]
    return shown, [value for line in lines for value in inner_values(line)]


def names(values: list[Value]) -> list[str]:
    return [value.expression.function if isinstance(value.expression, Call) else "?" for value in values]


@pytest.mark.parametrize(
    ("formula", "shown", "inner"),
    [
        ("release x = @id", [], []),
        ("release x = hex(sha256($word))", [], []),
        ("release x = hex(hmac(sha256, !key, $word))", ["hmac"], []),
        # Encodings and text around a value hide nothing.
        ("release x = 'v1=' b64(hmac(sha256, !key, $word)) ';'", ["hmac"], []),
        # A derived key stays inside; only the outermost one-way value leaves.
        ("release x = hex(hmac(sha256, hmac(sha256, !key, 'd'), $word))", ["hmac"], ["hmac"]),
        (
            "k = hmac(sha256, !key, 'd')\nrelease x = hex(sha512(md5(k) k))",
            ["sha512"],
            ["md5", "hmac", "hmac", "hmac"],
        ),
        # Two secret sides hide each other; a public side hides nothing.
        ("release x = hex(xor(hmac(sha256, !key, 'a'), hmac(sha256, !key, 'b')))", ["xor"], ["hmac", "hmac"]),
        ("release x = hex(xor(hmac(sha256, !key, 'a'), $block))", ["hmac"], ["hmac"]),
        # Yes or no about a value is not the value.
        ("verify x = equal($hash, hex(hmac(sha256, !key, $word)))", [], []),
    ],
)
def test_what_leaves_and_what_stays(formula: str, shown: list[str], inner: list[str]) -> None:
    revealed_values, inner_ones = lines_of(formula)
    assert names(revealed_values) == shown
    assert names(inner_ones) == inner


def test_values_of_one_field_share_a_secret_and_others_do_not() -> None:
    (one, two, three), _ = lines_of(
        "release x = hex(hmac(sha256, !key, 'a'))\nrelease y = hex(hmac(sha512, !key, 'b'))\n"
        "release z = hex(sha256(!secret))"
    )
    assert share_secret(one, two)
    assert not share_secret(one, three)


def test_a_value_knows_the_line_that_it_leaves_by() -> None:
    (value,), _ = lines_of("a = hmac(sha256, !key, 'a')\n\nrelease x = hex(a)")
    assert (value.formula.name, value.line) == ("op", 3)
