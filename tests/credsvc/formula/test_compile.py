"""Compiled formulas: a derived key is remembered under what it depends on, a formula is compiled once."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime
from typing import Any

import pytest

from credsvc.formula.compile import MEMO_ENTRIES, Memo, compile_formula
from credsvc.formula.evaluate import Released, evaluate
from credsvc.formula.manifest import Manifest
from ostiary.errors import BadInput
from tests.support.manifests import BEARER, KEY, build, operation

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
EPOCH = int(NOW.timestamp())


def evaluated(manifest: Manifest, holes: dict[str, Any], *, memo: Memo | None = None) -> Released:
    return evaluate(
        manifest,
        "op",
        holes,
        operation=None,
        shareable={"id": "me"},
        confidential=dict.fromkeys(manifest.confidential, b"q7Zk2Vw9XrT4mB8nL1cJ6hF3sD5gP0aY"),
        ceiling={},
        now=NOW,
        memo=memo,
    )


CHAIN = (
    "k = hmac(sha256, hmac(sha256, 'v' !key, $t.date), $word)\nrelease x = hex(hmac(sha256, k, 'm:' $other))"
)


def test_a_derived_key_is_computed_once_for_the_values_it_depends_on() -> None:
    manifest = build(operation("op", CHAIN))
    memo = Memo()
    first = evaluated(manifest, {"t": EPOCH, "word": "a", "other": "x"}, memo=memo)
    assert len(memo) == 1
    assert first == evaluated(manifest, {"t": EPOCH + 60, "word": "a", "other": "x"}, memo=memo)
    assert first != evaluated(manifest, {"t": EPOCH, "word": "a", "other": "y"}, memo=memo)
    assert len(memo) == 1
    evaluated(manifest, {"t": EPOCH, "word": "b", "other": "x"}, memo=memo)
    assert len(memo) == 2


def test_with_and_without_memo_the_releases_are_the_same() -> None:
    manifest = build(operation("op", CHAIN))
    memo = Memo()
    for word in ("a", "b", "a", "c", "b"):
        holes = {"t": EPOCH, "word": word, "other": word}
        assert evaluated(manifest, holes, memo=memo) == evaluated(manifest, holes)


def test_a_memo_is_bounded_and_shows_nothing() -> None:
    manifest = build(operation("op", CHAIN))
    memo = Memo()
    for index in range(3 * MEMO_ENTRIES):
        word = "".join(chr(97 + int(digit)) for digit in str(index))
        evaluated(manifest, {"t": EPOCH, "word": word, "other": "x"}, memo=memo)
    assert len(memo) == MEMO_ENTRIES
    assert repr(memo) == f"Memo({MEMO_ENTRIES} entries)"
    with pytest.raises(TypeError, match="pickled"):
        pickle.dumps(memo)


def test_two_manifests_never_share_a_memoised_key() -> None:
    """The same Memo under two manifests whose formulas differ in one label gives each its own key."""
    one, two = build(operation("op", CHAIN)), build(operation("op", CHAIN.replace("'v'", "'w'")))
    memo, holes = Memo(), {"t": EPOCH, "word": "a", "other": "x"}
    assert evaluated(one, holes, memo=memo) != evaluated(two, holes, memo=memo)
    assert evaluated(two, holes, memo=memo) == evaluated(two, holes)


def test_a_binding_used_twice_is_the_same_value() -> None:
    formula = "m = 'v' $word\nrelease a = m\nrelease b = m\nrelease x = hex(hmac(sha256, !key, m))"
    outputs = evaluated(build(operation("op", formula)), {"word": "w"}).outputs
    assert outputs["a"] == outputs["b"] == "vw"


def test_two_keys_of_one_formula_are_remembered_apart() -> None:
    """Both depend on the same hole and on nothing else that is public."""
    formula = (
        "a = hmac(sha256, 'v' !key, $word)\nb = hmac(sha256, 'w' !key, $word)\n"
        "release x = hex(hmac(sha256, a, 'm'))\nrelease y = hex(hmac(sha256, b, 'm'))"
    )
    manifest, memo = build(operation("op", formula)), Memo()
    outputs = evaluated(manifest, {"word": "a"}, memo=memo).outputs
    assert outputs == evaluated(manifest, {"word": "a"}).outputs
    assert outputs["x"] != outputs["y"]
    assert len(memo) == 2


def test_a_formula_is_compiled_once() -> None:
    manifest = build(operation("op", CHAIN))
    holes = {"t": EPOCH, "word": "a", "other": "x"}
    evaluated(manifest, holes)
    misses = compile_formula.cache_info().misses
    for _ in range(5):
        evaluated(manifest, holes)
    assert compile_formula.cache_info().misses == misses


@pytest.mark.parametrize(
    ("formula", "fields", "wanted"),
    [
        ("disclose x = !key", KEY, "line 1: disclose is not yet supported"),
        ("send header.authorization = 'Bearer ' !token", BEARER, "line 1: send is not yet supported"),
        ("release x = b64(sign(ed25519, !key, 'a'))", KEY, "sign is not yet supported"),
    ],
)
def test_what_is_not_offered_yet_does_not_compile(formula: str, fields: str, wanted: str) -> None:
    with pytest.raises(BadInput, match=wanted):
        compile_formula(build(operation("op", formula), fields=fields), "op")
