"""The report checks against a corpus of hostile manifests, each with one thing wrong, and of harmless
ones.
"""

from __future__ import annotations

import pytest

from credsvc.formula.approve import find_refusals
from tests.support.manifests import BEARER, KEY, PASSWORD, SECRET, build, operation
from tests.support.repository import ROOT

MODULES = ROOT / "modules"

GOOD = "release mac = hex(hmac(sha256, !key, 'v1:' $word))"
DAY = "hmac(sha256, 'AWS4' !key, $t.date)"
SCRAM = """
salted = pbkdf2(sha256, !password, $octets, $count, 32)
ckey = hmac(sha256, salted, 'Client Key')
"""
PROOF = SCRAM + "release p = b64(xor(ckey, hmac(sha256, sha256(ckey), 'a' $word)))"

# title, rule that refuses, confidential fields, operations
HOSTILE: list[tuple[str, str, str, list[str]]] = [
    ("released plain", "one-way", KEY, ["release x = !key"]),
    ("released with text around it", "one-way", KEY, ["release x = 'AWS4' !key '!'"]),
    ("released as hex", "one-way", KEY, ["release x = hex(!key)"]),
    ("released as base64 of base64", "one-way", KEY, ["release x = b64(b64url(!key))"]),
    ("released percent-encoded", "one-way", KEY, ["release x = pct(!key)"]),
    ("released as a JSON string", "one-way", KEY, ["release x = json(!key)"]),
    ("released through bindings", "one-way", KEY, ["a = !key\nb = hex(a)\nrelease x = b"]),
    ("released beside a good MAC", "one-way", KEY, [GOOD + "\nrelease y = hex(!key)"]),
    ("xor-ed with a hole", "one-way", KEY, ["release x = hex(xor(!key, $block))"]),
    ("xor-ed with itself, hashed", "one-way", SECRET, ["release x = hex(sha256(xor(!secret, $block)))"]),
    ("xor-ed with a MAC of itself", "one-way", KEY, ["release x = hex(xor(!key, hmac(sha256, !key, 'a')))"]),
    ("in a join", "one-way", KEY, ["release x = join('', $query, hex(hmac(sha256, !key, .name)))"]),
    ("joined plain", "one-way", KEY, ["release x = join('', $query, !key)"]),
    ("an hmac key as message", "one-way", KEY, ["release x = hex(hmac(sha256, $hash, 'a' !key))"]),
    ("an hmac key digested", "one-way", KEY, ["release x = hex(sha256(!key))"]),
    (
        "an hmac key digested, then a key",
        "one-way",
        KEY,
        ["release x = hex(hmac(sha256, sha256(!key), 'a' $word))"],
    ),
    ("a digest input as hmac key", "one-way", SECRET, ["release x = hex(hmac(sha256, !secret, 'a' $word))"]),
    (
        "a digest input as salt",
        "one-way",
        SECRET,
        ["release x = hex(pbkdf2(sha256, 'pw', !secret, 4096, 32))"],
    ),
    ("a password digested", "one-way", PASSWORD, ["release x = hex(sha256(!password))"]),
    ("a key with a hole beside it", "one-way", KEY, ["release x = hex(hmac(sha256, !key $word, 'a'))"]),
    (
        "a password with a hole beside it",
        "one-way",
        PASSWORD,
        [SCRAM.replace("!password", "!password $word") + "release x = hex(ckey)"],
    ),
    ("a bearer released under a digest", "one-way", BEARER, ["release x = hex(sha256(!token))"]),
    ("a bearer released plain", "one-way", BEARER, ["release header.authorization = 'Bearer ' !token"]),
    ("a secret compared plain", "one-way", KEY, ["verify x = equal(!key, $word)"]),
    (
        "text in an xor",
        "one-way",
        KEY,
        ["release x = hex(xor('a' hmac(sha256, !key, 'a'), hmac(sha256, !key, 'b')))"],
    ),
    (
        "an xor inside an xor",
        "one-way",
        KEY,
        ["a = hmac(sha256, !key, 'a')\nrelease x = hex(xor(a, xor(a, hmac(sha256, !key, 'b'))))"],
    ),
    (
        "an xor whose other side is released",
        "inner-value",
        KEY,
        [
            (
                f"d = {DAY}\ne = hmac(sha256, !key, 'e')\nrelease x = hex(xor(d, e))\n"
                "release y = hex(hmac(sha256, d, 'a'))\nrelease z = hex(e)"
            )
        ],
    ),
    ("a confidential field without use", "unused", KEY + SECRET, [GOOD]),
    (
        "an optional field inside a message",
        "unused",
        KEY,
        ["release x = hex(hmac(sha256, !key, 'a' @extra))"],
    ),
    (
        "SigV4's day key",
        "inner-value",
        KEY,
        [f"release x = hex({DAY})", f"release y = hex(hmac(sha256, {DAY}, 'v1' $word))"],
    ),
    (
        "SigV4's day key, same formula",
        "inner-value",
        KEY,
        [f"d = {DAY}\nrelease x = hex(d)\nrelease y = hex(hmac(sha256, d, 'a' $word))"],
    ),
    (
        "a day key that a free message can equal",
        "inner-value",
        KEY,
        [
            f"release y = hex(hmac(sha256, {DAY}, 'v1' $word))",
            "release x = hex(hmac(sha256, 'AWS4' !key, '2' $free))",
        ],
    ),
    (
        "a day key that a date can equal",
        "inner-value",
        KEY,
        [
            f"release y = hex(hmac(sha256, {DAY}, 'v1' $word))",
            "release x = b64(hmac(sha256, 'AWS4' !key, $t.date))",
        ],
    ),
    (
        "SCRAM's ClientKey",
        "inner-value",
        PASSWORD,
        [PROOF + "\nrelease x = hex(ckey)"],
    ),
    (
        "SCRAM's StoredKey",
        "inner-value",
        PASSWORD,
        [PROOF + "\nrelease x = hex(sha256(ckey))"],
    ),
    (
        "SCRAM's signature beside the proof",
        "inner-value",
        PASSWORD,
        [
            SCRAM
            + "s = hmac(sha256, sha256(ckey), 'a' $word)\nrelease p = b64(xor(ckey, s))\nrelease x = hex(s)"
        ],
    ),
    (
        "a derived key xor-ed with a hole",
        "inner-value",
        KEY,
        [f"d = {DAY}\nrelease x = hex(xor(d, $block))\nrelease y = hex(hmac(sha256, d, 'a'))"],
    ),
    (
        "a derived key of verify",
        "inner-value",
        KEY,
        [f"d = {DAY}\nrelease x = hex(d)\nverify ok = equal($hash, hex(hmac(sha256, d, 'a' $word)))"],
    ),
    (
        "a digest inside a digest",
        "inner-value",
        SECRET,
        ["h = md5(!secret)\nrelease x = hex(h)\nrelease y = hex(md5(h $t.epoch))"],
    ),
    ("a MAC of a free text alone", "message-start", KEY, ["release x = hex(hmac(sha256, !key, $free))"]),
    ("a MAC of octets alone", "message-start", KEY, ["release x = hex(hmac(sha256, !key, $octets))"]),
    (
        "a MAC of encoded free text alone",
        "message-start",
        KEY,
        ["release x = hex(hmac(sha256, !key, b64($free)))"],
    ),
    (
        "a webhook that can sign the other's text",
        "distinct",
        KEY,
        [GOOD, "release x = hex(hmac(sha256, !key, 'v' $free))"],
    ),
    ("the same formula in two operations", "distinct", KEY, [GOOD, GOOD.replace("mac =", "x =")]),
    (
        "one digest under two encodings",
        "distinct",
        SECRET,
        ["release x = hex(md5(!secret $t.epoch))", "release y = b64(md5(!secret $t.epoch))"],
    ),
    (
        "prefixes that a hole can complete",
        "distinct",
        KEY,
        [GOOD, "release x = hex(hmac(sha256, !key, 'v1' $free))"],
    ),
    ("two words without a mark", "separable", KEY, ["release x = hex(hmac(sha256, !key, 'a' $word $other))"]),
    (
        "a mark that the hole can contain",
        "separable",
        KEY,
        ["release x = hex(hmac(sha256, !key, 'a' $word 'x' $other))"],
    ),
    (
        "words run together inside a digest",
        "separable",
        KEY,
        ["release x = hex(hmac(sha256, !key, 'a' hex(sha256($word $other))))"],
    ),
    (
        "rows without an end",
        "separable",
        KEY,
        ["release x = hex(hmac(sha256, !key, 'a' join('', $query, .name .value)))"],
    ),
    (
        "rows whose glue a value contains",
        "separable",
        KEY,
        ["release x = hex(hmac(sha256, !key, 'a' join(';', $rows, .name ':' .value)))"],
    ),
    (
        "a free tail after a hashed secret",
        "free-tail",
        SECRET,
        ["release x = hex(sha256(!secret '|' $word))"],
    ),
    (
        "a free list after a hashed secret",
        "free-tail",
        SECRET,
        ["release x = hex(sha256(!secret '|' join('&', $query, .name '=' .value)))"],
    ),
    (
        "octets of any length after a hashed secret",
        "free-tail",
        SECRET,
        ["release x = hex(sha256(!secret $octets))"],
    ),
    ("few iterations", "iterations", PASSWORD, [SCRAM.replace("$count", "$low") + "release x = hex(ckey)"]),
    (
        "too many iterations",
        "iterations",
        PASSWORD,
        [SCRAM.replace("$count", "1000001") + "release x = hex(ckey)"],
    ),
    (
        "a length from a hole",
        "iterations",
        PASSWORD,
        [SCRAM.replace("32)", "$low)") + "release x = hex(ckey)"],
    ),
    ("a short key", "iterations", PASSWORD, [SCRAM.replace("32)", "8)") + "release x = hex(ckey)"]),
    ("a line end in a header", "line-end", KEY, [GOOD + "\nrelease header.x = $lines"]),
    ("a line end in a query", "line-end", KEY, [GOOD + "\nrelease query = 'a\\n'"]),
    ("a state", "unsupported", KEY, ["release x = hex(hmac(sha256, !key, 'a' #nonce))"]),
    (
        "a signature",
        "unsupported",
        KEY.replace("hmac_key", "sign_key"),
        ["release x = b64(sign(ed25519, !key, 'a' $word))"],
    ),
    ("egress", "unsupported", BEARER, ["send header.authorization = 'Bearer ' !token"]),
    ("disclosure", "unsupported", KEY, ["disclose x = !key"]),
]


@pytest.mark.parametrize(("title", "rule", "fields", "formulas"), HOSTILE, ids=[case[0] for case in HOSTILE])
def test_hostile_manifests_are_refused(title: str, rule: str, fields: str, formulas: list[str]) -> None:
    operations = [operation(f"op{chr(97 + index)}", formula) for index, formula in enumerate(formulas)]
    refusals = find_refusals(build(*operations, fields=fields))
    assert rule in {finding.rule for finding in refusals}
    assert all(finding.message for finding in refusals)


HARMLESS: list[tuple[str, str, list[str]]] = [
    ("a MAC of a prefixed word", KEY, [GOOD]),
    ("two purposes with prefixes apart", KEY, [GOOD, GOOD.replace("mac =", "x =").replace("v1", "v2")]),
    (
        "a purpose apart by its key's label",
        KEY,
        [GOOD, "release x = hex(hmac(sha256, 'other' !key, 'v1:' $word))"],
    ),
    ("a purpose apart by its hash", KEY, [GOOD, "release x = hex(hmac(sha512, !key, 'v1:' $word))"]),
    (
        "a purpose apart by a pattern",
        KEY,
        ["release x = hex(hmac(sha256, !key, $word '|'))", "release y = hex(hmac(sha256, !key, 'A|'))"],
    ),
    (
        "a purpose apart by a missing key",
        KEY,
        [
            "release x = hex(hmac(sha256, !key, 'a' join('&', $query, .name '=' .value)))",
            "release y = hex(hmac(sha256, !key, 'asignature=' $word))",
        ],
    ),
    ("a derived key that is never released", KEY, [f"release y = hex(hmac(sha256, {DAY}, 'v1' $word))"]),
    ("a digest with a time behind the secret", SECRET, ["release x = hex(md5(@id !secret $t.epoch))"]),
    ("a digest with a free head", SECRET, ["release x = hex(md5($word '|' !secret))"]),
    (
        "SCRAM's proof",
        PASSWORD,
        [PROOF],
    ),
    (
        "a JWT",
        KEY,
        [
            (
                "h = b64url('{\"alg\":\"HS256\"}') '.' b64url('{\"sub\":' json($free) '}')\n"
                "release token = h '.' b64url(hmac(sha256, !key, h))"
            )
        ],
    ),
    ("a webhook check", KEY, ["verify ok = equal($hash, hex(hmac(sha256, !key, 'a' $word)))"]),
    ("an optional field alone", KEY, [GOOD + "\nrelease header.extra = @extra"]),
]


@pytest.mark.parametrize(("title", "fields", "formulas"), HARMLESS, ids=[case[0] for case in HARMLESS])
def test_harmless_manifests_are_not(title: str, fields: str, formulas: list[str]) -> None:
    operations = [operation(f"op{chr(97 + index)}", formula) for index, formula in enumerate(formulas)]
    assert find_refusals(build(*operations, fields=fields)) == ()


def test_a_context_that_is_not_signed_is_refused() -> None:
    formula = GOOD + "\nrelease y = $other"
    refusals = find_refusals(build(operation("op", formula, context='["other"]')))
    assert [finding.rule for finding in refusals] == ["context"]


def test_alternatives_of_one_operation_may_release_the_same() -> None:
    assert find_refusals(build(operation("op", GOOD, GOOD))) == ()


def test_findings_name_formula_and_line() -> None:
    (finding,) = find_refusals(build(operation("op", "a = 'x'\nrelease y = a\nrelease x = hex(!key)")))
    assert (finding.formula, finding.line, finding.severity) == ("op", 3, "refused")
    assert finding.message == "!key leaves without a one-way function above it"


def test_an_inner_value_and_an_unbounded_hole_are_found_by_their_place() -> None:
    formula = f"d = {DAY}\nrelease x = hex(d)\nrelease y = hex(hmac(sha256, d, 'v1' $word))"
    messages = [finding.message for finding in find_refusals(build(operation("op", formula)))]
    assert messages == [
        "the value released here can equal an inner value of formula 'op' at line 1, column 5"
    ]
    formula = "release x = hex(hmac(sha256, !key, 'a' $word $other))"
    (finding,) = find_refusals(build(operation("op", formula)))
    assert finding.message == "nothing marks where the value at line 1, column 40 ends"


def test_what_no_line_has_is_said_of_the_manifest() -> None:
    unused = find_refusals(build(operation("op", GOOD), fields=KEY + SECRET))
    assert [(each.formula, each.line, each.place) for each in unused] == [(None, None, "the manifest")]
    context = find_refusals(build(operation("op", GOOD + "\nrelease y = $other", context='["other"]')))
    assert [(each.line, each.place) for each in context] == [(None, "formula 'op'")]
