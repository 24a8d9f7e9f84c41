"""Refusals of the known: recorded before they are told, and never as fast as somebody can ask."""

from __future__ import annotations

import asyncio

import falcon
import msgspec
import pytest

from credsvc.front.doorkeeper import Refuser
from ostiary.errors import Forbidden
from ostiary.front.limits import Limit
from ostiary.work.reports import Refuse
from tests.support.credentials_front import PEER, FixedClock, MemoryRecorder


def _refuse(refuser: Refuser, serial: str = PEER.serial) -> None:
    peer = msgspec.structs.replace(PEER, serial=serial)
    why = {"rule": "default-deny", "reason": "no policy permits this"}
    asyncio.run(refuser.refuse(peer, act="use", target="aws/sign", **why))


def test_it_is_recorded_and_answered_as_what_it_is() -> None:
    recorder = MemoryRecorder()
    with pytest.raises(Forbidden) as refused:
        _refuse(Refuser(recorder, FixedClock()))
    assert (refused.value.rule, refused.value.message) == ("default-deny", "no policy permits this")
    assert recorder.items == [
        Refuse(by=PEER, act="use", target="aws/sign", rule="default-deny", reason="no policy permits this")
    ]


def test_refusals_of_one_certificate_do_not_flood_the_ledger() -> None:
    recorder = MemoryRecorder()
    refuser = Refuser(recorder, FixedClock(), limit=Limit(rate_per_s=1, burst=2))
    for _ in range(2):
        with pytest.raises(Forbidden):
            _refuse(refuser)
    with pytest.raises(falcon.HTTPTooManyRequests):
        _refuse(refuser)
    with pytest.raises(Forbidden):
        _refuse(refuser, serial="0b")
    assert len(recorder.items) == 3
