"""Callers are identified on each request, paced by source and certificate, and refusals of somebody are
recorded.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import falcon
import falcon.testing
import pytest

from ca.front.doorkeeper import LIMITS
from ca.front.peer import PROVERS
from ostiary.capabilities import Capability
from ostiary.errors import Busy, Forbidden, Unauthenticated
from ostiary.front.limits import Limit
from ostiary.work.reports import Refusals, Refuse
from tests.support.ca_front import FrontForTests, Holder, new_key


@pytest.fixture
def front(tmp_path: Path) -> FrontForTests:
    return FrontForTests(tmp_path)


def request_of(front: FrontForTests, holder: Holder | None, source: str = "192.0.2.1") -> falcon.Request:
    """A request as gunicorn hands it on, from a client with that certificate."""
    environ = falcon.testing.create_environ(remote_addr=source)
    return falcon.Request(environ | front.extras_of(holder))


def counted(front: FrontForTests) -> list[tuple[str, str, int]]:
    recorded: list[Refusals] = []
    front.refusals.flush(recorded.append)
    return [(each.source, each.reason, each.count) for each in recorded]


def test_an_active_certificate_is_let_in_with_its_row(front: FrontForTests) -> None:
    holder = front.holder()
    caller = front.parts.doorkeeper.identify(request_of(front, holder), act="whoami")
    assert (caller.serial, caller.der, caller.row.status) == (holder.serial, holder.der, "active")
    assert not counted(front)


def test_without_a_certificate_a_stranger_is_counted(front: FrontForTests) -> None:
    with pytest.raises(Unauthenticated) as refused:
        front.parts.doorkeeper.identify(request_of(front, None), act="whoami")
    assert refused.value.field == "certificate"
    assert counted(front) == [("192.0.2.1", "certificate-missing", 1)]
    assert not front.recording.refusals()


def test_a_certificate_without_an_agents_names_is_a_strangers(front: FrontForTests) -> None:
    holder = Holder(key=new_key(), certificate=front.authority.responder())
    with pytest.raises(Unauthenticated, match="its names are not those of an agent"):
        front.parts.doorkeeper.identify(request_of(front, holder), act="whoami")
    assert counted(front) == [("192.0.2.1", "certificate-names", 1)]


def test_a_standing_that_is_not_asked_for_is_refused_and_recorded(front: FrontForTests) -> None:
    holder = front.holder()
    with pytest.raises(Forbidden) as refused:
        front.parts.doorkeeper.identify(request_of(front, holder), act="prove", standings=PROVERS)
    assert refused.value.rule == "certificate-active"
    assert front.recording.refusals() == [("prove", "certificate-active")]


def test_a_refusal_that_can_not_be_recorded_is_busy(front: FrontForTests) -> None:
    holder = front.holder(bootstrap=True)
    front.recording.is_away = True
    with pytest.raises(Busy):
        front.parts.doorkeeper.identify(request_of(front, holder), act="whoami")


def test_a_missing_capability_is_refused_under_its_name(front: FrontForTests) -> None:
    doorkeeper = front.parts.doorkeeper
    caller = doorkeeper.identify(request_of(front, front.holder()), act="read-ledger")
    doorkeeper.require(caller, Capability("ledger:read"), act="read-ledger", target="entries")
    with pytest.raises(Forbidden) as refused:
        doorkeeper.require(caller, Capability("enroll:node"), act="spawn", target="n2")
    assert refused.value.rule == "capability-enroll:node"
    assert front.recording.refusals() == [("spawn", "capability-enroll:node")]


def test_a_target_is_cut_to_what_an_entry_has_room_for(front: FrontForTests) -> None:
    doorkeeper = front.parts.doorkeeper
    caller = doorkeeper.identify(request_of(front, front.holder()), act="whoami")
    doorkeeper.record_refusal(caller, act="prove", target="f" * 500, rule="certificate-other", reason="no")
    (item,) = [each for _, each in front.recording.items if isinstance(each, Refuse)]
    assert item.target == "f" * 64


def test_a_source_is_paced_whatever_it_asks(tmp_path: Path) -> None:
    front = FrontForTests(tmp_path, limits=replace(LIMITS, source=Limit(rate_per_s=1, burst=2)))
    doorkeeper = front.parts.doorkeeper
    for _ in range(2):
        assert doorkeeper.check_source_pace(request_of(front, None)) == "192.0.2.1"
    with pytest.raises(falcon.HTTPTooManyRequests):
        doorkeeper.check_source_pace(request_of(front, None))
    assert doorkeeper.check_source_pace(request_of(front, None, "192.0.2.2")) == "192.0.2.2"


def test_a_certificate_is_paced_from_whatever_source(tmp_path: Path) -> None:
    front = FrontForTests(tmp_path, limits=replace(LIMITS, caller=Limit(rate_per_s=1, burst=2)))
    holder = front.holder()
    for number in (1, 2):
        front.parts.doorkeeper.identify(request_of(front, holder, f"192.0.2.{number}"), act="whoami")
    with pytest.raises(falcon.HTTPTooManyRequests):
        front.parts.doorkeeper.identify(request_of(front, holder, "192.0.2.3"), act="whoami")


def test_only_refusals_slow_a_stranger_down(tmp_path: Path) -> None:
    front = FrontForTests(tmp_path, limits=replace(LIMITS, stranger=Limit(rate_per_s=0.1, burst=2)))
    doorkeeper = front.parts.doorkeeper
    for _ in range(5):
        doorkeeper.check_stranger_pace(request_of(front, None))
    for _ in range(2):
        doorkeeper.count_stranger("192.0.2.1", "token-unknown")
    with pytest.raises(falcon.HTTPTooManyRequests):
        doorkeeper.check_stranger_pace(request_of(front, None))
    doorkeeper.check_stranger_pace(request_of(front, None, "192.0.2.2"))
