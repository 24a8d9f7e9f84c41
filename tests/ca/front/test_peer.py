"""A certificate's standing comes from its row and the time, and decides alone what its holder may do."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from ca.front.peer import ASKERS, PROVERS, RENEWERS, SEEN, Caller, Standing, error_for, standing_of
from ca.recorder.issuing import first_certificate
from ostiary.capabilities import Capability
from ostiary.errors import Forbidden, Unauthenticated
from ostiary.peer import read_peer
from ostiary.timestamp import epoch_seconds
from tests.support.ca_authority import AuthorityForTests
from tests.support.certificates import IDENTITY

CA = AuthorityForTests()
PEER = read_peer(CA.leaf().public_bytes(Encoding.DER))
ROW = first_certificate(CA.prepared(), now_s=epoch_seconds(CA.now), lifetime_s=7200)


@pytest.mark.parametrize(
    ("changed", "standing"),
    [
        ({}, Standing.ACTIVE),
        ({"status": "pending"}, Standing.RENEWED),
        ({"status": "pending", "bootstrap": True}, Standing.BOOTSTRAP),
        ({"status": "superseded"}, Standing.SUPERSEDED),
        ({"status": "revoked"}, Standing.REVOKED),
    ],
)
def test_the_row_says_how_a_certificate_stands(changed: dict[str, Any], standing: Standing) -> None:
    assert standing_of(replace(ROW, **changed), PEER, CA.now) is standing


def test_without_a_row_a_certificate_is_unknown() -> None:
    assert standing_of(None, PEER, CA.now) is Standing.UNKNOWN


def test_not_after_is_the_last_second_of_validity() -> None:
    assert standing_of(ROW, PEER, PEER.not_after) is Standing.ACTIVE
    late = PEER.not_after + timedelta(seconds=1)
    assert standing_of(ROW, PEER, late) is Standing.EXPIRED
    assert standing_of(replace(ROW, status="revoked"), PEER, late) is Standing.REVOKED


def test_what_each_standing_may_do() -> None:
    """The table of the module's docstring."""
    may = {each: [each in group for group in (ASKERS, RENEWERS, PROVERS, SEEN)] for each in Standing}
    nothing = [False, False, False, False]
    assert may == {
        Standing.ACTIVE: [True, True, False, True],
        Standing.RENEWED: [True, True, False, True],
        Standing.BOOTSTRAP: [False, False, True, True],
        Standing.SUPERSEDED: [False, True, False, False],
        Standing.REVOKED: nothing,
        Standing.EXPIRED: nothing,
        Standing.UNKNOWN: nothing,
    }


@pytest.mark.parametrize("standing", list(Standing))
def test_every_standing_has_its_error(standing: Standing) -> None:
    error = error_for(standing)
    assert error.field == "certificate"
    if standing in {Standing.EXPIRED, Standing.UNKNOWN}:
        assert isinstance(error, Unauthenticated)
    else:
        assert isinstance(error, Forbidden)
        assert error.rule == f"certificate-{standing.value}"


def test_a_caller_may_what_its_certificate_carries() -> None:
    caller = Caller(serial=PEER.serial, der=PEER.der, identity=IDENTITY, row=ROW)
    assert caller.may(Capability("credential:use"))
    assert not caller.may(Capability("ledger:read"))
    assert (caller.peer.serial, caller.peer.agent) == (PEER.serial, IDENTITY.agent)
