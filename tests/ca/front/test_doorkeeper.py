"""Callers are identified on each request, paced by source and certificate, and refusals of somebody are
recorded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TypeVar

import falcon
import pytest

from ca.front.doorkeeper import LIMITS
from ca.front.peer import PROVERS, Caller
from ostiary.capabilities import Capability
from ostiary.errors import Busy, Forbidden, Unauthenticated
from ostiary.front.limits import Limit
from ostiary.front.peer import acting_for
from ostiary.work.reports import Refusals, Refuse
from tests.support.ca_front import FrontForTests, Holder, new_key

SOURCE: Final = "192.0.2.1"


@pytest.fixture
def front(tmp_path: Path) -> FrontForTests:
    return FrontForTests(tmp_path)


T = TypeVar("T")


def as_peer(
    front: FrontForTests,
    holder: Holder | None,
    work: Callable[[], Coroutine[Any, Any, T]],
    source: str = SOURCE,
) -> T:
    """What comes of asking for a client with that certificate."""
    with acting_for(front.peer_of(holder, source=source)):
        return asyncio.run(work())


def identify(
    front: FrontForTests, holder: Holder | None, source: str = SOURCE, *, act: str = "whoami", **options: Any
) -> Caller:
    doorkeeper = front.parts.doorkeeper
    return as_peer(front, holder, lambda: doorkeeper.identify(act=act, **options), source)


def test_an_active_certificate_is_let_in_with_its_row(front: FrontForTests) -> None:
    holder = front.holder()
    caller = identify(front, holder)
    assert (caller.serial, caller.der, caller.row.status) == (holder.serial, holder.der, "active")
    assert not front.counted()


def test_without_a_certificate_a_stranger_is_counted(front: FrontForTests) -> None:
    with pytest.raises(Unauthenticated) as refused:
        identify(front, None)
    assert refused.value.field == "certificate"
    assert front.counted() == [Refusals(source=SOURCE, reason="certificate-missing", count=1)]
    assert not front.recording.refusals()


def test_a_certificate_without_an_agents_names_is_a_strangers(front: FrontForTests) -> None:
    holder = Holder(key=new_key(), certificate=front.authority.responder())
    with pytest.raises(Unauthenticated, match="its names are not those of an agent"):
        identify(front, holder)
    assert front.counted() == [Refusals(source=SOURCE, reason="certificate-names", count=1)]


def test_a_standing_that_is_not_asked_for_is_refused_and_recorded(front: FrontForTests) -> None:
    holder = front.holder()
    with pytest.raises(Forbidden) as refused:
        identify(front, holder, act="prove", standings=PROVERS)
    assert refused.value.rule == "certificate-active"
    assert front.recording.refusals() == [("prove", "certificate-active")]


def test_a_refusal_that_can_not_be_recorded_is_busy(front: FrontForTests) -> None:
    holder = front.holder(bootstrap=True)
    front.recording.is_away = True
    with pytest.raises(Busy):
        identify(front, holder)


def test_a_missing_capability_is_refused_under_its_name(front: FrontForTests) -> None:
    doorkeeper, caller = front.parts.doorkeeper, identify(front, front.holder(), act="read-ledger")
    asyncio.run(doorkeeper.require(caller, Capability("ledger:read"), act="read-ledger", target="entries"))
    with pytest.raises(Forbidden) as refused:
        asyncio.run(doorkeeper.require(caller, Capability("enroll:node"), act="spawn", target="n2"))
    assert refused.value.rule == "capability-enroll:node"
    assert front.recording.refusals() == [("spawn", "capability-enroll:node")]


def test_a_target_is_cut_to_what_an_entry_has_room_for(front: FrontForTests) -> None:
    doorkeeper, caller = front.parts.doorkeeper, identify(front, front.holder())
    asyncio.run(
        doorkeeper.record_refusal(
            caller, act="prove", target="f" * 500, rule="certificate-other", reason="no"
        )
    )
    (item,) = [each for _, each in front.recording.items if isinstance(each, Refuse)]
    assert item.target == "f" * 64


@pytest.mark.parametrize(
    "path",
    [
        "/healthz",
        "/readyz",
        "/.well-known/est/cacerts",
        "/.well-known/est/csrattrs",
        "/v1/whoami",
        "/nowhere",
    ],
)
def test_a_source_is_paced_whatever_it_asks(tmp_path: Path, path: str) -> None:
    front = FrontForTests(tmp_path, limits=replace(LIMITS, source=Limit(rate_per_s=1, burst=2)))
    statuses = [front.ask("GET", path).status_code for _ in range(4)]
    assert statuses[0] == statuses[1] != 429
    assert statuses[2:] == [429, 429]
    assert front.ask("GET", path, source="192.0.2.2").status_code == statuses[0]
    front.clock.later(seconds=1)
    assert front.ask("GET", path).status_code == statuses[0]


def test_a_source_is_paced_also_with_a_certificate_that_did_not_verify(tmp_path: Path) -> None:
    front = FrontForTests(tmp_path, limits=replace(LIMITS, source=Limit(rate_per_s=1, burst=2)))
    stranger = Holder(key=new_key(), certificate=front.authority.leaf())
    asked = [front.ask("GET", "/v1/whoami", holder=stranger, problem="it has expired") for _ in range(3)]
    assert [result.status_code for result in asked] == [401, 401, 429]
    assert front.counted() == [Refusals(source="127.0.0.1", reason="certificate-unverified", count=2)]


def test_a_certificate_is_paced_from_whatever_source(tmp_path: Path) -> None:
    front = FrontForTests(tmp_path, limits=replace(LIMITS, caller=Limit(rate_per_s=1, burst=2)))
    holder = front.holder()
    for number in (1, 2):
        identify(front, holder, f"192.0.2.{number}")
    with pytest.raises(falcon.HTTPTooManyRequests):
        identify(front, holder, "192.0.2.3")


def test_only_refusals_slow_a_stranger_down(tmp_path: Path) -> None:
    front = FrontForTests(tmp_path, limits=replace(LIMITS, stranger=Limit(rate_per_s=0.1, burst=2)))
    doorkeeper = front.parts.doorkeeper
    with acting_for(front.peer_of(None, source="192.0.2.2")):
        assert doorkeeper.check_stranger_pace() == "192.0.2.2"
    with acting_for(front.peer_of(None, source=SOURCE)):
        for _ in range(5):
            doorkeeper.check_stranger_pace()
        for _ in range(2):
            doorkeeper.count_stranger(SOURCE, "token-unknown")
        with pytest.raises(falcon.HTTPTooManyRequests):
            doorkeeper.check_stranger_pace()
    with acting_for(front.peer_of(None, source="192.0.2.2")):
        doorkeeper.check_stranger_pace()
