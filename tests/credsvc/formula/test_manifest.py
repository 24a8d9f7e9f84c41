"""A manifest as a value: the credentials that fit it, its formulas by name, and when two are the same."""

from __future__ import annotations

import pytest

from credsvc.formula.manifest_toml import parse_manifest
from ostiary.errors import BadInput
from tests.support.manifests import build, build_text, operation

SIGN = operation("op", "release x = hex(hmac(sha256, !key, 'a'))")


def test_credentials_are_held_against_the_manifest() -> None:
    manifest = build(SIGN)
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


def test_a_formula_is_found_by_name_and_within_its_operation() -> None:
    manifest = build(SIGN, operation("other", "release y = hex(hmac(sha256, !key, 'b'))"))
    assert manifest.formula("op", operation=None) is manifest.formula("op", operation="op")
    for name, asked in (("op", "other"), ("nope", None), ("nope", "op")):
        with pytest.raises(BadInput) as refused:
            manifest.formula(name, operation=asked)
        assert refused.value.field == "formula"


def test_two_manifests_are_equal_when_their_bytes_are() -> None:
    text = build_text(SIGN).encode()
    assert parse_manifest(text) == parse_manifest(text)
    assert len({parse_manifest(text), parse_manifest(text), parse_manifest(text + b"\n")}) == 2
