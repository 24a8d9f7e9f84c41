"""The report checks against the shipped SigV4 manifest with one thing changed."""

from __future__ import annotations

import pytest

from credsvc.formula.approve import find_refusals
from credsvc.formula.manifest_toml import parse_manifest
from tests.support.repository import ROOT

SIGV4 = (ROOT / "modules" / "aws-sigv4" / "manifest.toml").read_text()


@pytest.mark.parametrize(
    ("title", "old", "new", "rule"),
    [
        (
            "the day key",
            "release query = query '&X-Amz-Signature=' sig",
            "release query = query sig\nrelease k = hex(kdate)",
            "inner-value",
        ),
        (
            "the signing key",
            "release query = query '&X-Amz-Signature=' sig",
            "release query = query sig\nrelease k = b64(key)",
            "inner-value",
        ),
        (
            "a service that is the scope's end",
            'service = { type = "regex", pattern = "[a-z0-9-]{1,64}" }',
            'service = { type = "regex", pattern = "[a-z0-9_-]{1,64}" }',
            None,
        ),
        (
            "presigned queries in sign",
            'without = ["X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Signature"]',
            "",
            "distinct",
        ),
        ("a chunk prefix like a request's", "'AWS4-HMAC-SHA256-PAYLOAD\\n'", "'AWS4-HMAC-SHA256\\n'", None),
        (
            "a chunk that signs anything",
            "head hex(sha256('')) '\\n' $payload",
            "'AWS4-HMAC-SHA256' $payload",
            "distinct",
        ),
        (
            "a path with line ends",
            'path = { type = "regex", pattern = "/[A-Za-z0-9._~%/-]*" }',
            'path = { type = "regex", pattern = "/[\\\\n -~]*" }',
            "separable",
        ),
    ],
)
def test_sigv4_with_one_thing_changed(title: str, old: str, new: str, rule: str | None) -> None:
    assert old in SIGV4
    text = SIGV4.replace(old, new)
    if title == "a chunk that signs anything":
        text = text.replace("head  = ", "release head = ")
        text = text.replace(
            'payload = { type = "regex", pattern = "[0-9a-f]{64}" }',
            'payload = { type = "regex", pattern = "[\\\\n -~]*" }',
        )
    found = {finding.rule for finding in find_refusals(parse_manifest(text.encode()))}
    assert (rule in found) if rule else not found
