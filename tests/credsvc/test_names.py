"""Names of credentials and operations: what is one, what is none, and what the error names."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from credsvc.names import parse_credential, parse_operation
from ostiary.errors import BadInput


@pytest.mark.parametrize("name", ["a", "0", "billing-aws", "a.b_c-d", "a" * 100])
def test_a_credentials_name(name: str) -> None:
    assert parse_credential(name) == name


@pytest.mark.parametrize("name", ["", "-a", ".a", "A", "a/b", "a b", "a\n", "a" * 101, "\u00e4"])
def test_what_is_no_credentials_name(name: str) -> None:
    with pytest.raises(BadInput) as refused:
        parse_credential(name)
    assert refused.value.field == "credential"


@pytest.mark.parametrize("name", ["a", "sign", "sign_v2", "a" * 63])
def test_an_operations_name(name: str) -> None:
    assert parse_operation(name) == name


@pytest.mark.parametrize("name", ["", "2a", "_a", "Sign", "a-b", "a\n", "a" * 64])
def test_what_is_no_operations_name(name: str) -> None:
    with pytest.raises(BadInput) as refused:
        parse_operation(name)
    assert refused.value.field == "operation"


@pytest.mark.parametrize("parse", [parse_credential, parse_operation])
def test_a_message_quotes_a_long_name_in_part(parse: Callable[[str], str]) -> None:
    with pytest.raises(BadInput) as refused:
        parse("x" * 5_000 + "!")
    assert len(refused.value.message) < 300


@given(st.text(max_size=120))
def test_what_is_accepted_needs_no_escaping_in_a_path(text: str) -> None:
    try:
        name = parse_credential(text)
    except BadInput:
        return
    assert quote(name, safe="") == name == text
