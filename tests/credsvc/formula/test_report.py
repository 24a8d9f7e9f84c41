"""The report for an approver: notes on formulas that nothing is wrong with, and what they mark."""

from __future__ import annotations

import pytest

from credsvc.formula.manifest_toml import parse_manifest
from credsvc.formula.report import report_manifest
from tests.support.manifests import PASSWORD, build, operation
from tests.support.repository import ROOT

PROOF = """
salted = pbkdf2(sha256, !password, $octets, $count, 32)
ckey = hmac(sha256, salted, 'Client Key')
release p = b64(xor(ckey, hmac(sha256, sha256(ckey), 'a' $word)))
"""


@pytest.mark.parametrize(("name", "guessable"), [("aws-sigv4", set[str]()), ("gogrid", {"sign"})])
def test_shipped_manifests_pass(name: str, guessable: set[str]) -> None:
    report = report_manifest(parse_manifest((ROOT / "modules" / name / "manifest.toml").read_bytes()))
    assert report.refusals == ()
    assert report.guessable == guessable


def test_a_password_is_noted_and_so_is_a_formula_without_secret() -> None:
    manifest = build(operation("op", PROOF), operation("id", "release x = @id"), fields=PASSWORD)
    report = report_manifest(manifest)
    assert report.refusals == ()
    assert report.guessable == {"op"}
    assert [(note.rule, note.formula, note.severity) for note in report.findings] == [
        ("guessable", "op", "note"),
        ("no-secret", "id", "note"),
    ]


def test_a_generated_key_is_not_guessable() -> None:
    report = report_manifest(build(operation("op", "release x = hex(hmac(sha256, !key, 'a' $word))")))
    assert (report.findings, report.guessable) == ((), frozenset())


def test_what_is_refused_has_no_notes() -> None:
    report = report_manifest(build(operation("op", "release x = !password"), fields=PASSWORD))
    assert report.refusals
    assert (report.notes, report.guessable) == ((), frozenset())
