"""The bound of an answer: never below what a formula really releases, and where that is known, just that."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from credsvc.formula.evaluate import evaluate_filled
from credsvc.formula.holes import check_holes
from credsvc.formula.injected import build_clock
from credsvc.formula.manifest import Manifest
from credsvc.formula.manifest_toml import parse_manifest
from credsvc.formula.release_size import bound_release
from credsvc.formula.selftest import build_plain_runner, parse_vectors
from tests.support.manifests import BEARER, KEY, PASSWORD, build, operation
from tests.support.repository import ROOT

LIBRARY = ROOT / "modules"
MODULES = sorted(path.parent.name for path in LIBRARY.glob("*/manifest.toml"))
NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
HOLES: dict[str, Any] = {
    "t": int(NOW.timestamp()),
    "word": "abc",
    "free": 'a "quoted" \\ one',
    "lines": "one\ntwo\n\n",
    "octets": "00ff0a",
    "low": 7,
    "rows": [{"name": "host", "value": '"x"'}, {"name": "y", "value": ""}],
    "count": 4096,
    "block": "0f" * 32,
}


def size(outputs: object) -> int:
    """Bytes of an object's members in JSON, each with what divides it from the next."""
    return len(msgspec.json.encode(outputs)) - 1


def sizes(
    manifest: Manifest,
    formula: str,
    holes: Any,
    shareable: dict[str, str],
    secrets: dict[str, bytes],
    now: datetime,
) -> tuple[int, int]:
    """What the formula releases, and the bound of it."""
    filled = check_holes(manifest, formula, holes, operation=None, now=now, ceiling={})
    released = evaluate_filled(manifest, filled, shareable=shareable, confidential=secrets, memo=None)
    return size(released.outputs), bound_release(manifest, filled, shareable=shareable)


@pytest.mark.parametrize("module", MODULES)
def test_the_vectors_of_each_module_stay_below_it(module: str) -> None:
    manifest = parse_manifest((LIBRARY / module / "manifest.toml").read_bytes())
    run = build_plain_runner((LIBRARY / module / "module.py").read_text("utf-8"))
    seen = 0
    for path in sorted((LIBRARY / module / "vectors").glob("*.json")):
        file = parse_vectors(path.read_bytes())
        secrets = {name: value.encode() for name, value in file.confidential.items()}
        for case in file.cases:
            if case.expect.refused is not None:
                continue
            shareable = {**file.shareable, **case.shareable}
            formula, holes = run(case.operation, case.request, shareable, build_clock(case.now))
            now = datetime.fromtimestamp(case.now, UTC)
            actual, bound = sizes(manifest, formula, holes, shareable, secrets, now)
            assert actual <= bound <= actual + 64
            seen += 1
    assert seen


@pytest.mark.parametrize(
    "expression",
    [
        "'text'",
        "'\"\\n'",
        "@id $word 'x'",
        "$free",
        "$lines",
        "$low.text",
        "$t.date $t.stamp $t.iso $t.epoch",
        "hex($octets)",
        "b64($octets) b64url($octets) b64($word)",
        "pct($free)",
        "json($lines)",
        "hex(md5($word)) hex(sha1($word)) b64(sha256($word)) hex(sha512($word))",
        "hex(hmac(sha512, !key, $free))",
        "hex(xor($block, $block))",
        "join(';', $rows, .name)",
        "join('\"', $rows, .name '=' .value '\\n')",
        "join('', $rows, pct(.value) hex(.name))",
        "join('', $rows, .name $word @id $free)",
    ],
)
def test_each_term_and_function(expression: str) -> None:
    manifest = build(operation("op", f"bound = {expression}\nrelease out = 'x' bound bound"))
    used = {name: value for name, value in HOLES.items() if f"${name}" in expression}
    actual, bound = sizes(manifest, "op", used, {"id": "me"}, {"key": b"k" * 32}, NOW)
    assert actual <= bound <= 6 * actual + 16


def test_what_needs_no_quoting_is_known() -> None:
    manifest = build(operation("op", "release a = @id $word '\"'\nrelease b = hex(sha256($word))"))
    used = {"word": HOLES["word"]}
    actual, bound = sizes(manifest, "op", used, {"id": "me"}, {"key": b"k" * 32}, NOW)
    assert bound - actual <= 2  # of two members


def test_a_secret_counts_with_its_greatest_length() -> None:
    bearer = build(operation("op", "release out = 'Bearer ' !token"), fields=BEARER)
    actual, bound = sizes(bearer, "op", {}, {"id": "me"}, {"token": b"k" * 32}, NOW)
    assert bound >= actual - 32 + 64
    derived = build(
        operation("op", "release out = hex(pbkdf2(sha256, !password, $octets, $count, 20))"), fields=PASSWORD
    )
    used = {name: HOLES[name] for name in ("octets", "count")}
    actual, bound = sizes(derived, "op", used, {"id": "me"}, {"password": b"p"}, NOW)
    assert actual <= bound <= actual + 2


def test_a_public_field_that_is_missing_takes_nothing() -> None:
    manifest = build(operation("op", "release out = $word\nrelease more = @extra"), fields=KEY)
    actual, bound = sizes(manifest, "op", {"word": "abc"}, {"id": "me"}, {"key": b"k" * 32}, NOW)
    assert actual <= bound
    more, with_it = sizes(
        manifest, "op", {"word": "abc"}, {"id": "me", "extra": "x" * 20}, {"key": b"k" * 32}, NOW
    )
    assert with_it == bound + 20 >= more


def test_a_signature_is_no_longer_than_its_key_allows() -> None:
    manifest = build(
        operation("op", "release out = b64(sign(rsa-sha256, !key, $word))"),
        fields=KEY.replace("hmac_key", "sign_key"),
    )
    filled = check_holes(manifest, "op", {"word": "abc"}, operation=None, now=NOW, ceiling={})
    assert bound_release(manifest, filled, shareable={"id": "me"}) >= 4 * 512 / 3
