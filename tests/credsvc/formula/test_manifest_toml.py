"""Reading manifests: what is read, and that every error names table, key and what was wanted."""

from __future__ import annotations

import hashlib

import pytest

from credsvc.formula.manifest_toml import parse_manifest
from credsvc.formula.types import FieldType, ListHole, Strength
from ostiary.errors import BadInput
from tests.support.manifests import build, build_text, operation

GOOD = build_text(
    operation(
        "op",
        "release x = hex(hmac(sha256, !key, 'a' $word join('&', $rows, .name) $t.date))",
        context='["word"]',
    )
)


def test_a_good_manifest() -> None:
    manifest = parse_manifest(GOOD.encode())
    assert (manifest.name, manifest.version) == ("example", "1.0.0")
    assert manifest.digest == hashlib.sha256(GOOD.encode()).hexdigest()
    assert manifest.confidential["key"].type is FieldType.HMAC_KEY
    assert manifest.confidential["key"].strength is Strength.GENERATED
    assert isinstance(manifest.formulas["op"].holes["rows"], ListHole)
    assert manifest == parse_manifest(GOOD.encode())
    assert manifest != parse_manifest(GOOD.encode() + b"\n")


FORMULA = "manifest.operations.op.formulas.op"
HOLES = FORMULA + ".holes"
CHANGES = [
    ('version = "1.0.0"', 'version = "1"', "manifest.version"),
    ('version = "1.0.0"', "", "manifest.version"),
    ('name = "example"', 'name = "Example"', "manifest.name"),
    ('summary = "an example"', "summary = 7", "manifest.summary"),
    ('summary = "an example"', 'summary = "an \\u001b[8mexample"', "manifest.summary"),
    ('summary = "an example"', 'summary = "an \\u202eexample"', "manifest.summary"),
    ('summary = "an example"', 'summary = "an example"\nowner = "x"', "manifest.owner"),
    ('summary = "an example"', 'summary = "x"\nhosts = "h"', "manifest.hosts"),
    ('summary = "an example"', 'summary = "x"\nhosts = ["H"]', "manifest.hosts"),
    ('summary = "an example"', 'summary = "x"\nsources = ["ftp://x"]', "manifest.sources"),
    ('type = "hmac_key"', 'type = "key"', "manifest.confidential.key.type"),
    ('strength = "generated"', 'strength = "strong"', "manifest.confidential.key.strength"),
    ('alphabet = "[A-Za-z0-9]"', 'alphabet = "[A-Za-z0-9]+"', "manifest.confidential.key.alphabet"),
    ("length = [32, 64]", "length = [21, 64]", "manifest.confidential.key.length"),
    ("length = [32, 64]", "length = [64, 32]", "manifest.confidential.key.length"),
    ("length = [32, 64]", "length = 32", "manifest.confidential.key.length"),
    ("length = [32, 64]", "length = [32, true]", "manifest.confidential.key.length"),
    ("optional = true", 'optional = "yes"', "manifest.shareable.extra.optional"),
    ("optional = true", "hidden = true", "manifest.shareable.extra.hidden"),
    ("[shareable.extra]", "[shareable.Extra]", "manifest.shareable.Extra"),
    ('version = "1.0.0"', 'version = "1.0.0"\nshareable.other = 7', "manifest.shareable.other"),
    ('holes.t = { type = "time", skew_s = 60 }', 'holes.t = "time"', HOLES + ".t"),
    ('context = ["word"]', 'context = ["other"]', HOLES),
    ('context = ["word"]', 'context = ["word", "word"]', "manifest.operations.op.context"),
    ('context = ["word"]', 'context = ["rows[path]"]', HOLES),
    ('context = ["word"]', 'context = ["word[x]"]', HOLES),
    ('context = ["word"]', 'context = ["rows"]', HOLES),
    ("skew_s = 60", "skew_s = 86400", HOLES + ".t.skew_s"),
    ("skew_s = 60", "skew = 60", HOLES + ".t.skew"),
    ('type = "time"', 'type = "date"', HOLES + ".t.type"),
    ('pattern = "[a-z]{1,20}" }', 'pattern = "(a+)+" }', HOLES + ".word.pattern"),
    ("max = 8", "max = 0", HOLES + ".rows.max"),
    (", max = 8", "", HOLES + ".rows.max"),
    ('name = "[a-z]+"', 'name = "a**"', HOLES + ".rows.columns"),
    ("must = [", 'must = ["a b", ', HOLES + ".rows.must"),
    ("release x", "releas x", FORMULA + ".formula"),
    ("$t.date", "$t.year", FORMULA + ".formula"),
    ("[operations.op]", "[operations.op.x]", "manifest.operations.op.x"),
]


@pytest.mark.parametrize(
    ("old", "new", "field"), CHANGES, ids=[f"{new or 'no ' + old}" for old, new, _ in CHANGES]
)
def test_one_thing_wrong_is_named(old: str, new: str, field: str) -> None:
    assert old in GOOD
    with pytest.raises(BadInput) as refused:
        parse_manifest(GOOD.replace(old, new, 1).encode())
    assert refused.value.field == field
    assert refused.value.message.startswith(field)


@pytest.mark.parametrize("data", [b"\xff", b"a = ", b"[a", b"x" * 70_000, b""])
def test_what_is_no_manifest_is_refused(data: bytes) -> None:
    with pytest.raises(BadInput):
        parse_manifest(data)


def test_formula_names_are_unique_in_the_manifest() -> None:
    two = operation("other", "release y = 'a'").replace("formulas.other]", "formulas.op]")
    with pytest.raises(BadInput, match="taken") as refused:
        build(operation("op", "release x = hex(hmac(sha256, !key, 'a'))"), two)
    assert refused.value.field == "manifest.operations.other.formulas"


def test_all_alternatives_supply_the_same_context() -> None:
    both = operation(
        "op",
        "release x = hex(hmac(sha256, !key, 'a' $word))",
        "release x = hex(hmac(sha256, !key, 'b' $other))",
        context='["word"]',
    )
    with pytest.raises(BadInput) as refused:
        build(both)
    assert refused.value.field == "manifest.operations.op.formulas.op_2.holes"


@pytest.mark.parametrize(
    ("before", "after", "field"),
    [
        (
            'summary = "an example"',
            'summary = "an example"\nhosts = ["a.example", "a.example"]',
            "manifest.hosts",
        ),
        ('must = ["host"]', 'must = ["host", "host"]', "manifest.operations.op.formulas.op.holes.rows.must"),
        (
            'must = ["host"]',
            'without = ["date", "date"]',
            "manifest.operations.op.formulas.op.holes.rows.without",
        ),
    ],
)
def test_a_text_that_stands_in_a_list_twice_is_refused(before: str, after: str, field: str) -> None:
    text = build_text(operation("op", "release x = hex(hmac(sha256, !key, join(',', $rows, .name)))"))
    parse_manifest(text.encode())
    assert before in text
    with pytest.raises(BadInput) as refused:
        parse_manifest(text.replace(before, after).encode())
    assert refused.value.field == field
