"""The crossing from untrusted to checked."""

from __future__ import annotations

from typing import Any

import pytest

from credsvc.front.requests import MAX_DEPTH, RawRequest, check_request
from ostiary.errors import BadInput
from tests.support.credentials_front import AGENT, PEER


def _check(request: dict[str, Any], *, credential: str = "billing-aws", operation: str = "sign") -> Any:
    raw = RawRequest(request=request)
    return check_request(raw, peer=PEER, agent=AGENT, credential=credential, operation=operation)


def test_a_good_one_crosses_unchanged() -> None:
    request = {"method": "GET", "headers": [["a", "b"]], "expires": 3600}
    checked = _check(request)
    assert (checked.credential, checked.operation, checked.request) == ("billing-aws", "sign", request)
    assert "method" not in repr(checked)


@pytest.mark.parametrize("name", ["", "A", "a/b", "a" * 101, ".a", "a b", "a\n"])
def test_names_of_credentials(name: str) -> None:
    with pytest.raises(BadInput) as refused:
        _check({}, credential=name)
    assert refused.value.field == "credential"


@pytest.mark.parametrize("name", ["", "Sign", "sign-it", "_sign", "s" * 64])
def test_names_of_operations(name: str) -> None:
    with pytest.raises(BadInput) as refused:
        _check({}, operation=name)
    assert refused.value.field == "operation"


def _nested(depth: int) -> dict[str, Any]:
    value: Any = "x"
    for _ in range(depth):
        value = [value]
    return {"deep": value}


def test_depth_is_bounded() -> None:
    _check(_nested(MAX_DEPTH - 2))
    with pytest.raises(BadInput) as refused:
        _check(_nested(5000))
    assert refused.value.field == "request"


def test_numbers_are_bounded() -> None:
    _check({"n": 2**53 - 1})
    with pytest.raises(BadInput):
        _check({"n": -(2**53)})
