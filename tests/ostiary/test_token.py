"""Tokens: one spelling per value, typing errors found, nothing shown."""

from __future__ import annotations

import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary.errors import BadInput
from ostiary.token import RANDOM_BYTES, SCANNER_PATTERN, mint, parse_token, parse_token_id

RANDOM = bytes(range(RANDOM_BYTES))
# Made independently with coreutils' base32 and the CRC-32 in the trailer that gzip writes.
TEXT = "ost_aaaqeayeaudaocaj_bifqydiob4ibceqtcqkrmfyydenbwha5dypsaijcemsckjrhfauqquyfva"
ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"


def test_a_token_has_its_published_form() -> None:
    token = mint(RANDOM)
    text = token.reveal()
    assert text == TEXT
    assert len(text) == 4 + 16 + 1 + 52 + 6
    assert re.search(SCANNER_PATTERN, f"token = '{text}'")
    assert token.digest == hashlib.sha256(RANDOM[10:]).digest()


@given(st.binary(min_size=RANDOM_BYTES, max_size=RANDOM_BYTES))
def test_parsing_what_was_printed_is_identity(random_bytes: bytes) -> None:
    token = mint(random_bytes)
    assert parse_token(token.reveal()) == token
    assert parse_token_id(token.id) == token.id


@given(
    st.binary(min_size=RANDOM_BYTES, max_size=RANDOM_BYTES),
    st.integers(4, 78),
    st.sampled_from(ALPHABET),
)
def test_one_wrong_character_is_found_and_not_repeated(
    random_bytes: bytes, position: int, wrong: str
) -> None:
    text = mint(random_bytes).reveal()
    mistyped = text[:position] + wrong + text[position + 1 :]
    if mistyped == text:
        return
    with pytest.raises(BadInput) as refusal:
        parse_token(mistyped)
    assert refusal.value.field == "token"
    assert mistyped[21:73] not in refusal.value.message


@pytest.mark.parametrize(
    "change", [str.upper, str.strip, lambda text: text + "\n", lambda text: text[:-1], lambda _: ""]
)
def test_another_spelling_is_refused(change: object) -> None:
    text = mint(RANDOM).reveal()
    changed = change(text)  # type: ignore[operator]
    if changed == text:
        assert parse_token(changed).reveal() == text
        return
    with pytest.raises(BadInput):
        parse_token(changed)


def test_a_token_shows_its_id_only() -> None:
    token = mint(RANDOM)
    secret = token.reveal()[21:73]
    assert token.id in repr(token)
    assert secret not in repr(token) + str(token)


def test_an_id_that_is_a_whole_token_is_refused_without_repeating_it() -> None:
    text = mint(RANDOM).reveal()
    with pytest.raises(BadInput) as refusal:
        parse_token_id(text)
    assert text[21:] not in str(refusal.value)


def test_too_little_randomness_is_our_own_fault() -> None:
    with pytest.raises(AssertionError):
        mint(b"short")
