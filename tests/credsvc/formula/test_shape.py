"""Shapes: for every kind of term the alphabet and the widths hold whatever the term can become."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from credsvc.formula.evaluate import evaluate_filled
from credsvc.formula.holes import check_holes
from credsvc.formula.notation import Output, Text
from credsvc.formula.pattern import NON_ASCII, mask_of
from credsvc.formula.shape import Atom, Shapes, bindings_of, expand, first_of, total_width
from tests.support.manifests import build, operation

EPOCH = int(datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC).timestamp())
SECRET = "k" * 32


def shape_of(text: str) -> tuple[Atom, ...]:
    """The atoms of what `release x = ...` releases."""
    formula = build(operation("op", text)).formulas["op"]
    (output,) = (each for each in formula.statements if isinstance(each, Output))
    shapes = Shapes(build(operation("op", text)), formula)
    return shapes.atoms(expand(output.expression, bindings_of(formula)))


CASES: list[tuple[str, dict[str, Any]]] = [
    ("'a\\n' 'b'", {}),
    ("@id", {}),
    ("$word", {"word": "ab"}),
    ("$t.date", {"t": EPOCH}),
    ("$t.stamp", {"t": EPOCH}),
    ("$t.iso", {"t": EPOCH}),
    ("$t.epoch", {"t": EPOCH}),
    ("$count.text", {"count": 4096}),
    ("hex($octets)", {"octets": "00ff"}),
    ("b64($octets)", {"octets": "00ff"}),
    ("b64url($octets)", {"octets": "00ff"}),
    ("pct($free)", {"free": "a b/ü~"[:4]}),
    ("json($free)", {"free": 'a "b'}),
    ("hex(md5($free))", {"free": ""}),
    ("hex(sha1($free))", {"free": ""}),
    ("hex(sha512($free))", {"free": ""}),
    ("hex(hmac(sha256, !key, $word))", {"word": "a"}),
    ("hex(pbkdf2(sha256, !key, $octets, 4096, 24))", {"octets": "00"}),
    ("hex(xor(sha256('a'), $block))", {"block": "00" * 32}),
    ("join('&', $query, .name '=' .value)", {"query": [{"name": "a", "value": "b"}] * 2}),
    ("join('&', $query, .name '=' .value)", {"query": []}),
]


@pytest.mark.parametrize(("expression", "holes"), CASES, ids=[expression for expression, _ in CASES])
def test_what_comes_out_lies_within_its_shape(expression: str, holes: dict[str, Any]) -> None:
    manifest = build(operation("op", f"release x = {expression}"))
    filled = check_holes(manifest, "op", holes, operation=None, now=None, ceiling={})
    fields: dict[str, Any] = {"shareable": {"id": "me"}, "confidential": {"key": SECRET.encode()}}
    text = evaluate_filled(manifest, filled, memo=None, **fields).outputs["x"]
    atoms = shape_of(f"release x = {expression}")
    lo, hi = total_width(atoms)
    assert lo <= len(text)
    assert hi is None or len(text) <= hi
    alphabet = 0
    for atom in atoms:
        alphabet |= atom.alphabet
    assert all(mask_of(character) & alphabet for character in text)
    assert not text or mask_of(text[0]) & first_of(atoms)


def test_neighbouring_literals_are_one_and_empty_ones_none() -> None:
    (atom,) = shape_of("a = 'b' ''\nrelease x = 'a' a 'c'")
    assert (atom.source, atom.text, atom.lo, atom.hi) == ("literal", "abc", 3, 3)
    assert isinstance(atom.expression, Text)


def test_a_binding_is_put_in_place_and_flattened() -> None:
    sources = [atom.source for atom in shape_of("a = $word '|'\nrelease x = a @id a")]
    assert sources == ["blank", "literal", "constant", "blank", "literal"]


@pytest.mark.parametrize(
    ("expression", "typed", "free"),
    [
        ("'a'", True, False),
        ("$t.epoch", True, False),
        ("$count.text", True, False),
        ("$hash", True, False),
        ("$word", False, False),
        ("$free", False, True),
    ],
)
def test_typed_and_free_pieces(expression: str, typed: bool, free: bool) -> None:
    (atom,) = shape_of(f"release x = {expression}")
    assert (atom.is_typed, atom.is_free) == (typed, free)


def test_characters_outside_ascii_have_no_upper_width() -> None:
    """`.{1,3}` is at most three characters, and up to twelve octets of UTF-8."""
    any_hole = 'holes.any = { type = "regex", pattern = ".{1,3}" }\n'
    manifest = build(operation("op", "release x = $any") + any_hole)
    formula = manifest.formulas["op"]
    (output,) = (each for each in formula.statements if isinstance(each, Output))
    (atom,) = Shapes(manifest, formula).atoms(output.expression)
    assert atom.alphabet & NON_ASCII
    assert (atom.lo, atom.hi) == (1, None)
