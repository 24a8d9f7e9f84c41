"""Explanations: public bindings for a caller, all bindings for a vector's published key."""

from __future__ import annotations

import hashlib
import hmac

from credsvc.formula.explain import explain, trace
from credsvc.formula.holes import FilledHoles, check_holes
from credsvc.formula.manifest import Manifest
from tests.support.manifests import build, operation

CANARY = b"q7Zk2Vw9XrT4mB8nL1cJ6hF3sD5gP0aY"


def filled(manifest: Manifest, **holes: object) -> FilledHoles:
    return check_holes(manifest, "op", holes, operation=None, now=None, ceiling={})


def test_explanations_show_public_bindings_only() -> None:
    formula = (
        "m = 'v' $word\nh = sha256(m)\nk = hmac(sha256, !key, m)\nrelease y = hex(h)\nrelease x = hex(k)"
    )
    manifest = build(operation("op", formula))
    holes = filled(manifest, word="w")
    digest = hashlib.sha256(b"vw").hexdigest()
    assert explain(manifest, holes, shareable={"id": "me"}) == {"m": "vw", "h": digest, "y": digest}
    traced = trace(manifest, holes, shareable={"id": "me"}, confidential={"key": CANARY})
    assert traced["k"] == hmac.digest(CANARY, b"vw", "sha256").hex()


def test_an_explanation_leaves_out_what_the_credential_lacks() -> None:
    manifest = build(
        operation("op", "release x = hex(hmac(sha256, !key, 'a'))\nrelease header.extra = @extra")
    )
    assert explain(manifest, filled(manifest), shareable={"id": "me"}) == {}
    assert explain(manifest, filled(manifest), shareable={"id": "me", "extra": "e"}) == {"header.extra": "e"}


def test_line_ends_are_shown_as_text_and_other_octets_as_hex() -> None:
    manifest = build(operation("op", "m = 'a\\nb'\nn = 'a\\x07b'\nrelease x = hex(hmac(sha256, !key, m n))"))
    assert explain(manifest, filled(manifest), shareable={}) == {"m": "a\nb", "n": "610762"}
