"""The operator's protocol: every error survives the way to the operator and back."""

from __future__ import annotations

import json

import msgspec
import pytest

from ostiary.admin.protocol import (
    VerbProblem,
    VerbRequest,
    decode_page,
    decode_request,
    encode_page,
    error_of,
    page_end,
    problem_of,
)
from ostiary.errors import (
    BadInput,
    Busy,
    Conflict,
    Forbidden,
    InternalFault,
    Misconfigured,
    NotFound,
    OstiaryError,
    Unauthenticated,
)

ERRORS = [
    BadInput("no", field="ttl_s"),
    Unauthenticated("no"),
    Forbidden("no", rule="token-expired", field="token"),
    NotFound("no"),
    Conflict("no"),
    Busy("no"),
    Misconfigured("no"),
    InternalFault("no"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.kind)
def test_an_error_comes_back_as_it_was(error: OstiaryError) -> None:
    encoded = msgspec.json.encode(problem_of(error))
    back = error_of(msgspec.json.decode(encoded, type=VerbProblem))
    assert type(back) is type(error)
    assert (back.message, back.field) == (error.message, error.field)
    assert getattr(back, "rule", None) == getattr(error, "rule", None)


def test_a_kind_of_another_release_is_a_fault() -> None:
    assert isinstance(error_of(VerbProblem(kind="later", message="no")), InternalFault)


def test_a_request_is_a_verb_with_its_arguments() -> None:
    body = json.dumps({"verb": "token.create", "arguments": {"ttl_s": 60}}).encode()
    assert decode_request(body) == VerbRequest(verb="token.create", arguments={"ttl_s": 60})


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"verb": "x"}',
        b'{"verb": 1, "arguments": {}}',
        b'{"verb": "x", "arguments": {}, "as": 0}',
    ],
)
def test_anything_else_is_refused(body: bytes) -> None:
    with pytest.raises(BadInput, match="malformed verb request"):
        decode_request(body)


@pytest.mark.parametrize("entries", [[], [b"{}"], [b"", b"{}", b"x" * 70_000, b""]])
def test_a_page_of_entries_comes_back_as_it_was(entries: list[bytes]) -> None:
    page = encode_page(entries, following=2**63 - 1)
    assert decode_page(page) == entries
    assert page_end(page) == (2**63 - 1, len(entries))


PAGE = encode_page([b"one", b"two"], following=2)


@pytest.mark.parametrize(
    "page",
    [b"", PAGE[:11], PAGE[:19], PAGE[:-1], PAGE + b"x", PAGE[:11] + b"\x01" + PAGE[12:]],
    ids=["empty", "no-count", "no-lengths", "cut-off", "more", "another-count"],
)
def test_what_does_not_make_up_a_page_is_refused(page: bytes) -> None:
    with pytest.raises(BadInput, match="malformed page"):
        decode_page(page)
