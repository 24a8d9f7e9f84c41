"""The shipped modules against their published vectors, and against independent signers (botocore,
hashlib).
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from freezegun import freeze_time

from credsvc.formula.evaluate import Memo, evaluate
from credsvc.formula.manifest import Manifest
from credsvc.formula.manifest_toml import parse_manifest
from credsvc.formula.selftest import Vector, VectorFile, build_plain_runner, parse_vectors, run
from ostiary.errors import BadInput
from tests.support.repository import ROOT

if TYPE_CHECKING:
    from credsvc.formula.selftest import ModuleRunner

MODULES = ROOT / "modules"
NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
SHAREABLE = {"access_key_id": "AKIDEXAMPLE"}
SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"


def load(name: str) -> tuple[Manifest, ModuleRunner, list[VectorFile]]:
    folder = MODULES / name
    manifest = parse_manifest((folder / "manifest.toml").read_bytes())
    runner = build_plain_runner((folder / "module.py").read_text())
    return (
        manifest,
        runner,
        [parse_vectors(path.read_bytes()) for path in sorted(folder.glob("vectors/*.json"))],
    )


@pytest.mark.parametrize(("name", "least"), [("aws-sigv4", 40), ("gogrid", 1)])
def test_published_vectors_come_out_right(name: str, least: int) -> None:
    manifest, runner, vectors = load(name)
    results = run(manifest, runner, vectors, is_traced=True)
    assert [(result.title, result.message) for result in results if not result.passed] == []
    assert len(results) >= least
    assert all(result.trace for result in results if name == "aws-sigv4")


def test_gogrid_agrees_with_hashlib_at_another_time() -> None:
    manifest, runner, _ = load("gogrid")
    formula, holes = runner("sign", {}, {"api_key": "k"}, {"epoch": int(NOW.timestamp())})
    released = evaluate(
        manifest,
        formula,
        holes,
        operation="sign",
        shareable={"api_key": "k"},
        confidential={"shared_secret": b"s"},
        ceiling={},
        now=NOW,
        memo=None,
    )
    expected = hashlib.md5(b"ks%d" % int(NOW.timestamp()))  # noqa: S324
    assert released.outputs["query.sig"] == expected.hexdigest()


def sign(request: dict[str, Any], *, operation: str = "sign", token: str | None = None) -> dict[str, str]:
    manifest, runner, _ = load("aws-sigv4")
    shareable = {**SHAREABLE, **({"session_token": token} if token else {})}
    formula, holes = runner(operation, request, shareable, {"epoch": int(NOW.timestamp())})
    released = evaluate(
        manifest,
        formula,
        holes,
        operation=operation,
        shareable=shareable,
        confidential={"secret_key": SECRET.encode()},
        ceiling={},
        now=NOW,
        memo=Memo(),
    )
    return dict(released.outputs)


REQUESTS: list[dict[str, Any]] = [
    {"method": "GET", "url": "https://s3.eu-west-1.amazonaws.com/bucket/a%20b//c/../d%2Fe", "service": "s3"},
    {
        "method": "GET",
        "url": "https://b.s3.amazonaws.com/?list-type=2&prefix=a%2Fb&delimiter=%2F&x=",
        "service": "s3",
    },
    {
        "method": "PUT",
        "url": "https://b.s3.amazonaws.com/k",
        "service": "s3",
        "headers": {"Content-Type": " text/plain ; a "},
    },
    {
        "method": "POST",
        "url": "https://ec2.us-east-1.amazonaws.com/",
        "service": "ec2",
        "body": b"Action=DescribeRegions",
    },
    {"method": "GET", "url": "https://es.us-east-1.amazonaws.com/a%20b/./c/../d//", "service": "es"},
    {
        "method": "POST",
        "url": "https://x.us-east-1.amazonaws.com:8443/a",
        "service": "x",
        "headers": {"X-Amz-Target": "A.B"},
    },
]


@pytest.mark.parametrize("case", REQUESTS, ids=lambda case: f"{case['method']} {case['url']}")
@pytest.mark.parametrize("token", [None, "FwoGZXIvYXdzEXAMPLETOKEN=="])
def test_botocore_signs_the_same(case: dict[str, Any], token: str | None) -> None:
    """The same request through botocore's own signer, at the same moment, gives the same authorization
    header.
    """
    body = case.get("body", b"")
    headers = {str(name): str(value) for name, value in case.get("headers", {}).items()}
    signer = S3SigV4Auth if case["service"] == "s3" else SigV4Auth
    theirs = AWSRequest(method=case["method"], url=case["url"], headers=dict(headers), data=body)
    with freeze_time(NOW):
        signer(Credentials("AKIDEXAMPLE", SECRET, token), case["service"], "us-east-1").add_auth(theirs)
    ours = {
        name: value for name, value in theirs.headers.items() if name in {"X-Amz-Content-SHA256", *headers}
    }
    digest = theirs.headers.get("X-Amz-Content-SHA256", hashlib.sha256(body).hexdigest())
    request = {
        "method": case["method"],
        "url": case["url"],
        "headers": ours,
        "payload_sha256": digest,
        "region": "us-east-1",
        "service": case["service"],
    }
    released = sign(request, token=token)
    assert released["header.authorization"] == theirs.headers["Authorization"]
    assert released["header.x-amz-date"] == theirs.headers["X-Amz-Date"]
    assert released.get("header.x-amz-security-token") == token


def test_botocore_presigns_the_same() -> None:
    url = "https://b.s3.amazonaws.com/a%20b/k?response-content-type=text%2Fplain&x-id=GetObject"
    theirs = AWSRequest(method="GET", url=url)
    with freeze_time(NOW):
        S3SigV4QueryAuth(Credentials("AKIDEXAMPLE", SECRET), "s3", "us-east-1", expires=600).add_auth(theirs)
    request = {"method": "GET", "url": url, "region": "us-east-1", "service": "s3", "expires": 600}
    signature = sign(request, operation="presign")["query"].rpartition("=")[2]
    assert theirs.url.endswith("X-Amz-Signature=" + signature)


def test_a_presigned_request_cannot_be_signed_as_headers() -> None:
    """`without` keeps the operations apart: what differs from a good request is one query parameter."""
    request = {
        "method": "GET",
        "url": "https://b.s3.amazonaws.com/k?X-Amz-Algorithm=A",
        "region": "us-east-1",
        "service": "s3",
    }
    with pytest.raises(BadInput) as refused:
        sign(request)
    assert refused.value.field == "holes.query"


def test_a_wrong_expectation_fails_the_selftest() -> None:
    manifest, runner, (file,) = load("gogrid")
    bad = Vector(
        title="x", operation="sign", now=file.cases[0].now + 1, request={}, expect=file.cases[0].expect
    )
    wrong = VectorFile(
        origin="",
        license="",
        generator="",
        check="",
        shareable=file.shareable,
        confidential=file.confidential,
        cases=(bad,),
    )
    (result,) = run(manifest, runner, [wrong], is_traced=False)
    assert not result.passed
    assert result.message.startswith("output query.sig: wanted '3f44")
    assert result.trace == ()
