"""A secret can be used and compared, but not shown, stored or copied by accident."""

from __future__ import annotations

import copy
import json
import pickle

import pytest

from ostiary.secret import Secret

MARKED = b"marked-secret-bytes"


def test_it_shows_nothing() -> None:
    secret = Secret(MARKED)
    for shown in (repr(secret), str(secret), f"{secret}", f"{[secret]!r}", f"{secret!s:>20}"):
        assert MARKED.decode() not in shown


def test_it_gives_its_bytes_when_asked() -> None:
    assert Secret(MARKED).reveal() == MARKED


def test_equality_is_by_content_and_only_between_secrets() -> None:
    assert Secret(MARKED) == Secret(bytes(MARKED))
    assert Secret(MARKED) != Secret(MARKED + b"x")
    assert Secret(MARKED) != MARKED


@pytest.mark.parametrize("use", [pickle.dumps, copy.copy, copy.deepcopy, hash, json.dumps, bytes])
def test_it_is_not_carried_away(use: object) -> None:
    with pytest.raises(TypeError):
        use(Secret(MARKED))  # type: ignore[operator]


def test_it_has_no_dictionary_to_look_into() -> None:
    with pytest.raises(TypeError):
        vars(Secret(MARKED))
