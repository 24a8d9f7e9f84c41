"""The selftest itself: a case that fails is a result that says why, and a case without an
expectation fails.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from credsvc.formula.selftest import SelftestResult, build_plain_runner, parse_vectors, run
from ostiary.errors import BadInput
from tests.support.manifests import build, operation

MANIFEST = build(operation("op", "m = 'v' $word\nrelease x = m\nrelease y = hex(hmac(sha256, !key, m))"))
SOURCE = (
    "def op(request, credential, clock):\n    return {'formula': 'op', 'holes': {'word': request['word']}}\n"
)
FILE = {
    "origin": "o",
    "license": "l",
    "generator": "g",
    "check": "c",
    "shareable": {"id": "me"},
    "confidential": {"key": "k" * 32},
}


def result_of(
    expect: dict[str, Any], *, request: dict[str, Any] | None = None, **file: Any
) -> SelftestResult:
    case = {"title": "t", "operation": "op", "now": 0, "request": request or {"word": "w"}, "expect": expect}
    vectors = parse_vectors(json.dumps({**FILE, **file, "cases": [case]}).encode())
    (result,) = run(MANIFEST, build_plain_runner(SOURCE), [vectors], is_traced=True)
    return result


def test_a_right_case_passes_with_its_trace() -> None:
    result = result_of({"outputs": {"x": "vw"}, "bindings": {"m": "vw"}})
    assert result.passed
    assert result.trace == (("m", "vw"),)


@pytest.mark.parametrize(
    ("expect", "request_", "file", "message"),
    [
        ({"outputs": {"x": "no"}}, None, {}, "output x: wanted 'no', got 'vw'"),
        ({"outputs": {"z": ""}}, None, {}, "output z: wanted '', got None"),
        ({"bindings": {"m": "no"}}, None, {}, "binding m: wanted 'no', got 'vw'"),
        ({}, None, {}, "the case expects nothing"),
        ({"refused": "holes.word"}, None, {}, "wanted a refusal of holes.word, got releases"),
        ({"refused": "holes.t"}, {"word": "W"}, {}, "refused: hole 'word'"),
        ({"outputs": {"x": "vw"}}, {"other": "w"}, {}, "refused: the module failed: KeyError"),
        ({"outputs": {"x": "vw"}}, None, {"confidential": {}}, "refused: field 'key' is missing"),
        ({"outputs": {"x": "vw"}}, None, {"shareable": {}}, "refused: field 'id'"),
    ],
)
def test_a_wrong_case_says_why(
    expect: dict[str, Any], request_: dict[str, Any] | None, file: dict[str, Any], message: str
) -> None:
    result = result_of(expect, request=request_, **file)
    assert not result.passed
    assert result.message.startswith(message)


def test_an_expected_refusal_passes() -> None:
    assert result_of({"refused": "holes.word"}, request={"word": "W"}).passed


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"\xff", b'{"origin": 1}', b" " * (1 << 21)])
def test_what_is_no_vector_file_is_refused(data: bytes) -> None:
    with pytest.raises(BadInput) as refused:
        parse_vectors(data)
    assert refused.value.field == "vectors"
