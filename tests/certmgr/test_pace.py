"""The pace of the manager's socket: each user has its own, and root none."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import falcon.asgi
import falcon.testing
import pytest

from certmgr.agents import MAX_REQUESTED
from certmgr.pace import USER_LIMIT, UserPace
from ostiary.errors import Busy
from ostiary.front.limits import Limit
from ostiary.front.peer import acting_for
from tests.support.asgi import LocalPeer
from tests.support.manager_records import FakeClock


def ask(pace: UserPace, uid: int) -> None:
    req = falcon.testing.create_asgi_req()
    with acting_for(LocalPeer(uid)):
        asyncio.run(pace.process_request(req, falcon.asgi.Response()))


def test_a_user_that_asks_too_often_waits_and_the_others_do_not() -> None:
    clock = FakeClock()
    pace = UserPace(clock, Limit(rate_per_s=0.5, burst=3))
    for _ in range(3):
        ask(pace, 1000)
    with pytest.raises(Busy) as caught:
        ask(pace, 1000)
    assert caught.value.retry_after_s == 2
    ask(pace, 1001)
    clock.at += timedelta(seconds=2)
    ask(pace, 1000)


def test_root_asks_for_all_users_and_is_not_counted() -> None:
    pace = UserPace(FakeClock(), Limit(rate_per_s=0.5, burst=1))
    for _ in range(10):
        ask(pace, 0)


def test_a_spawner_may_ask_for_as_many_agents_as_the_manager_takes_on() -> None:
    assert USER_LIMIT.burst >= 2 * MAX_REQUESTED
