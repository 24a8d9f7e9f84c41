"""Evaluation: published SCRAM values, every function, and that nothing secret leaves in an error."""

from __future__ import annotations

import base64
import hashlib
import hmac
import traceback
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from credsvc.formula.evaluate import Memo, Released, evaluate, evaluate_filled
from credsvc.formula.holes import FilledHoles, check_holes
from credsvc.formula.manifest import Manifest
from ostiary.errors import BadInput, InternalFault
from tests.support.manifests import KEY, PASSWORD, SECRET, build, operation

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
EPOCH = int(NOW.timestamp())
CANARY = b"q7Zk2Vw9XrT4mB8nL1cJ6hF3sD5gP0aY"


def evaluated(
    manifest: Manifest, holes: dict[str, Any], *, memo: Memo | None = None, name: str = "op"
) -> Released:
    return evaluate(
        manifest,
        name,
        holes,
        operation=None,
        shareable={"id": "me"},
        confidential=dict.fromkeys(manifest.confidential, CANARY),
        ceiling={},
        now=NOW,
        memo=memo,
    )


def test_scram_sha_256_proof_and_server_signature() -> None:
    """RFC 7677 section 3, user "user", password "pencil": the proof comes out, and the server's signature
    verifies.
    """
    formula = """
nonce  = 'r=' #cnonce $snonce
auth   = 'n=' @id ',r=' #cnonce ',' nonce ',s=' b64($octets) ',i=' $count.text ',c=biws,' nonce
salted = pbkdf2(sha256, !password, $octets, $count, 32)
ckey   = hmac(sha256, salted, 'Client Key')
release message = 'c=biws,' nonce ',p=' b64(xor(ckey, hmac(sha256, sha256(ckey), auth)))
verify  server  = equal($block, hmac(sha256, hmac(sha256, salted, 'Server Key'), auth))
"""
    snonce = 'holes.snonce = { type = "regex", pattern = "[!-+\\\\--~]+" }\n'
    manifest = build(operation("op", formula) + snonce, fields=PASSWORD)
    server = base64.b64decode("6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")
    holes = {
        "snonce": "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0",
        "octets": base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==").hex(),
        "count": 4096,
        "block": server.hex(),
    }
    filled = check_holes(manifest, "op", holes, operation="op", now=NOW, ceiling={})
    state = {"cnonce": b"rOprNGfwEbeRWgbNEkqO"}

    def with_state(filled: FilledHoles) -> Released:
        return evaluate_filled(
            manifest,
            filled,
            shareable={"id": "user"},
            confidential={"password": b"pencil"},
            memo=Memo(),
            state=state,
        )

    released = with_state(filled)
    proof = "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    assert (
        released.outputs["message"]
        == f"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p={proof}"
    )
    assert released.verified is True
    wrong = check_holes(manifest, "op", {**holes, "block": "00" * 32}, operation="op", now=NOW, ceiling={})
    assert with_state(wrong).verified is False


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("hex('ab')", "6162"),
        ("b64('a?>')", "YT8+"),
        ("b64url('a?>~')", "YT8-fg"),
        ("pct($free)", "a%20%2F%22~"),
        ("json($free)", '"a /\\"~"'),
        ("hex(md5('a'))", hashlib.md5(b"a").hexdigest()),  # noqa: S324
        ("hex(sha1('a'))", hashlib.sha1(b"a").hexdigest()),  # noqa: S324
        ("hex(sha512('a'))", hashlib.sha512(b"a").hexdigest()),
        ("hex(xor(sha256('a'), sha256('a')))", "00" * 32),
        ("hex(hmac(sha1, 'k', 'm'))", hmac.digest(b"k", b"m", "sha1").hex()),
        (
            "$t.date ' ' $t.stamp ' ' $t.iso ' ' $t.epoch",
            f"20261121 20261121T120000Z 2026-11-21T12:00:00Z {EPOCH}",
        ),
        ("join(',', $query, '<' .name '=' hex(.value) '>')", "<b=61>,<a=>"),
        ("$count.text '/' hex($octets)", "4096/ff00"),
        (
            "hex(pbkdf2(sha512, 'pw', $octets, $count, 16))",
            hashlib.pbkdf2_hmac("sha512", b"pw", b"\xff\0", 4096, 16).hex(),
        ),
    ],
)
def test_each_function(expression: str, expected: str) -> None:
    every = {
        "free": 'a /"~',
        "t": EPOCH,
        "query": [{"name": "b", "value": "a"}, {"name": "a", "value": ""}],
        "count": 4096,
        "octets": "ff00",
    }
    holes = {name: value for name, value in every.items() if "$" + name in expression}
    assert evaluated(build(operation("op", f"release x = {expression}")), holes).outputs == {"x": expected}


def test_an_absent_optional_field_leaves_its_release_out() -> None:
    manifest = build(
        operation("op", "release x = hex(hmac(sha256, !key, 'a'))\nrelease header.extra = @extra")
    )
    assert set(evaluated(manifest, {}).outputs) == {"x"}
    filled = check_holes(manifest, "op", {}, operation=None, now=None, ceiling={})
    fields: dict[str, Any] = {"shareable": {"id": "me", "extra": "e"}, "confidential": {"key": CANARY}}
    assert evaluate_filled(manifest, filled, memo=None, **fields).outputs["header.extra"] == "e"


@pytest.mark.parametrize(
    ("formula", "fields", "holes", "error"),
    [
        # Octets of two lengths meet only at evaluation.
        ("release x = hex(xor(hmac(sha256, !key, 'a'), $octets))", KEY, {"octets": "00"}, BadInput),
        ("release x = hex(sha256(!secret #gone))", SECRET, {}, InternalFault),
    ],
)
def test_no_error_carries_a_secret(
    formula: str, fields: str, holes: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error) as caught:
        evaluated(build(operation("op", formula), fields=fields), holes)
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    assert CANARY.decode() not in shown
    assert CANARY.hex() not in shown
    assert error is BadInput or caught.value.__suppress_context__


def test_a_missing_confidential_field_is_named() -> None:
    manifest = build(operation("op", "release x = hex(hmac(sha256, !key, 'a'))"))
    filled = check_holes(manifest, "op", {}, operation=None, now=None, ceiling={})
    with pytest.raises(BadInput) as refused:
        evaluate_filled(manifest, filled, shareable={"id": "me"}, confidential={}, memo=None)
    assert refused.value.field == "confidential.key"


def test_a_time_is_held_against_the_clock_given() -> None:
    manifest = build(operation("op", "release x = hex(hmac(sha256, !key, $t.epoch))"))
    assert evaluated(manifest, {"t": EPOCH - 60}).outputs
    with pytest.raises(BadInput, match="within 60 s"):
        evaluated(manifest, {"t": int((NOW - timedelta(seconds=61)).timestamp())})
