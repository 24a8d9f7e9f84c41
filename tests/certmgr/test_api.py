"""The socket's own rules: endpoints without a host, errno names, and how long the kernel may hold a key."""

from __future__ import annotations

from datetime import timedelta

import pytest

from certmgr.api import KEY_TIMEOUT_S, errno_name, kernel_has_peer_pidfd, key_timeout_s, parse_endpoint_of
from keyutils.request_key_handler import BUDGET_S, MAX_TIMEOUT_S, REFUSALS
from ostiary.errors import (
    BadInput,
    Busy,
    Conflict,
    Forbidden,
    InternalFault,
    NotFound,
    OstiaryError,
    Unauthenticated,
)
from tests.support.certificates import HOST, NODE, NOW
from tests.support.manager_records import record


@pytest.mark.parametrize("url", ["https+tcp://:8443", f"https+tcp://{NODE}:8443", f"https+tcp://{HOST}:8443"])
def test_an_endpoint_gets_the_agents_host(url: str) -> None:
    assert parse_endpoint_of(HOST, url) == f"https+tcp://{HOST}:8443"


@pytest.mark.parametrize(
    "url", ["https+tcp://other.example:8443", "https://:1", "x", "https+tcp://:0", "https+tcp://::1"]
)
def test_another_host_is_refused(url: str) -> None:
    with pytest.raises(BadInput) as caught:
        parse_endpoint_of(HOST, url)
    assert caught.value.field == "endpoints"


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (NotFound("x"), "ENOKEY"),
        (Conflict("x"), "EKEYREVOKED"),
        (Busy("x"), "EAGAIN"),
        (InternalFault("x"), "EAGAIN"),
        (BadInput("x"), "EKEYREJECTED"),
        (Unauthenticated("x"), "EKEYREJECTED"),
        (Forbidden("x", rule="r"), "EKEYREJECTED"),
    ],
)
def test_each_refusal_has_an_errno_that_the_handler_knows(error: OstiaryError, name: str) -> None:
    assert errno_name(error) == name
    assert name in REFUSALS


def test_the_kernel_asks_again_well_before_the_end() -> None:
    assert key_timeout_s(record(), NOW) == KEY_TIMEOUT_S < MAX_TIMEOUT_S
    assert key_timeout_s(record(), NOW + timedelta(hours=2, seconds=-9)) == 9
    assert key_timeout_s(record(), NOW + timedelta(hours=3)) == 1


def test_an_upcall_is_answered_within_the_handlers_budget() -> None:
    from certmgr.api import UPCALL_WAIT_S

    assert UPCALL_WAIT_S < BUDGET_S


def test_the_probe_for_peer_pidfds_answers() -> None:
    assert kernel_has_peer_pidfd() in {True, False}
