"""Errors: each kind has one place in the wire contract, and says who must act."""

from __future__ import annotations

import pytest

from ostiary import errors
from ostiary.edge.problems import STATUS_OF_KIND
from ostiary.errors import BadInput, Busy, Forbidden, OstiaryError

KINDS = [
    value
    for value in vars(errors).values()
    if isinstance(value, type) and issubclass(value, OstiaryError) and value is not OstiaryError
]


def test_every_kind_has_a_status_and_every_status_a_kind() -> None:
    assert {cls.kind for cls in KINDS} == set(STATUS_OF_KIND)
    assert len({cls.kind for cls in KINDS}) == len(KINDS) == 8


@pytest.mark.parametrize("cls", KINDS)
def test_an_error_carries_its_message_and_field(cls: type[OstiaryError]) -> None:
    if cls is Busy:
        assert Busy("full", retry_after_s=3).retry_after_s == 3
        return
    error = Forbidden("no", rule="a-rule", field="x") if cls is Forbidden else cls("no", field="x")
    assert (error.message, error.field, str(error)) == ("no", "x", "no")


def test_a_caller_can_catch_all_of_them_at_once() -> None:
    with pytest.raises(OstiaryError):
        raise BadInput("no")
