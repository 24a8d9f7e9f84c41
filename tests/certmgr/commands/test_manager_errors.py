"""What the manager refused becomes the command line's error of the same kind."""

from __future__ import annotations

import pytest

from certmgr.client import ManagerError
from certmgr.commands.manager_errors import command_error
from ostiary.errors import BadInput, Forbidden

KINDS = [
    "bad-input",
    "unauthenticated",
    "forbidden",
    "not-found",
    "conflict",
    "busy",
    "misconfigured",
    "internal-fault",
]


@pytest.mark.parametrize("kind", KINDS)
def test_the_kind_and_the_message_stay(kind: str) -> None:
    error = command_error(ManagerError("said so", kind=kind, rule="claim-user", field="token"))
    assert (error.kind, error.message) == (kind, "said so")


def test_a_refusal_keeps_its_rule() -> None:
    error = command_error(ManagerError("no", kind="forbidden", rule="claim-user"))
    assert isinstance(error, Forbidden)
    assert error.rule == "claim-user"


def test_a_refusal_without_a_rule_is_of_an_unknown_one() -> None:
    error = command_error(ManagerError("no", kind="forbidden"))
    assert isinstance(error, Forbidden)
    assert error.rule == "unknown"


def test_a_kind_of_a_later_release_is_bad_input() -> None:
    assert type(command_error(ManagerError("x", kind="from-the-future"))) is BadInput
