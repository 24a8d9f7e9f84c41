"""Manifests: what is read, and that every error names table, key and what was wanted; names and kinds in
formulas.
"""

from __future__ import annotations

import hashlib
import re

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
    ('context = ["word"]', 'context = ["other"]', "manifest.operations.op.formulas.op.holes"),
    ('context = ["word"]', 'context = ["word", "word"]', "manifest.operations.op.context"),
    ('context = ["word"]', 'context = ["rows[path]"]', "manifest.operations.op.formulas.op.holes"),
    ('context = ["word"]', 'context = ["word[x]"]', "manifest.operations.op.formulas.op.holes"),
    ('context = ["word"]', 'context = ["rows"]', "manifest.operations.op.formulas.op.holes"),
    ("skew_s = 60", "skew_s = 86400", "manifest.operations.op.formulas.op.holes.t.skew_s"),
    ("skew_s = 60", "skew = 60", "manifest.operations.op.formulas.op.holes.t.skew"),
    ('type = "time"', 'type = "date"', "manifest.operations.op.formulas.op.holes.t.type"),
    ('pattern = "[a-z]{1,20}" }', 'pattern = "(a+)+" }', "manifest.operations.op.formulas.op.holes.word.pattern"),
    ("max = 8", "max = 0", "manifest.operations.op.formulas.op.holes.rows.max"),
    (", max = 8", "", "manifest.operations.op.formulas.op.holes.rows.max"),
    ('name = "[a-z]+"', 'name = "a**"', "manifest.operations.op.formulas.op.holes.rows.columns"),
    ("must = [", 'must = ["a b", ', "manifest.operations.op.formulas.op.holes.rows.must"),
    ("release x", "releas x", "manifest.operations.op.formulas.op.formula"),
    ("$t.date", "$t.year", "manifest.operations.op.formulas.op.formula"),
    ("[operations.op]", "[operations.op.x]", "manifest.operations.op.x"),
]  # fmt: skip


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


KINDS = [
    ("release x = $nope", "no hole 'nope'"),
    ("release x = @nope", "no public field 'nope'"),
    ("release x = hex(!nope)", "no confidential field 'nope'"),
    ("release x = .name", "no list around it"),
    ("release x = join('', $rows, .nope)", "no list around it"),
    ("release x = join('', $word, .name)", "runs over a list"),
    ("release x = join($word, $rows, .name)", "separator of a join is a literal"),
    ("release x = join('', $rows, join('', $rows, .name))", "one loop"),
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


def test_credentials_are_held_against_the_manifest() -> None:
    manifest = build(operation("op", "release x = hex(hmac(sha256, !key, 'a'))"))
    manifest.check_shareable({"id": "me"})
    manifest.check_shareable({"id": "me", "extra": "x"})
    manifest.check_secret("key", b"a" * 32)
    for shareable in ({}, {"id": "ME"}, {"id": "me", "more": "x"}, {"id": "me", "extra": ""}):
        with pytest.raises(BadInput):
            manifest.check_shareable(shareable)
    for secret in (b"a" * 31, b"a" * 65, b"a" * 31 + b"!", b"\xff" * 32):
        with pytest.raises(BadInput) as refused:
            manifest.check_secret("key", secret)
        assert secret[:8].decode("latin-1") not in refused.value.message
        assert refused.value.field == "confidential.key"


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
