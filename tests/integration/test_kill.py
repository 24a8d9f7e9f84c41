"""A credentials service whose processes are killed and stopped under load: no answer is wrong or unrecorded,
and the service recovers by itself.

Sixteen clients over mTLS; each asks for signatures that nobody else asks for, and computes the expected one.
"""

from __future__ import annotations

import calendar
import contextlib
import hashlib
import hmac
import itertools
import os
import random
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from credsvc.items import salted_holes_digest
from ostiary.edge.home import ServiceHome
from tests.support.credential_service import AWS_SECRET, Service, running
from tests.support.killing import Follower, Load, Roles, come_back, kill_supervisor, load_of
from tests.support.traces import descendants

pytestmark = pytest.mark.slow
CLIENTS = 16
SEED = 20261121
REGION = "eu-north-1"
HOST = "billing.s3.eu-north-1.amazonaws.com"
PAYLOAD = hashlib.sha256(b"").hexdigest()
NAMES = "host;x-amz-content-sha256;x-amz-date"
ROLES = ("sandbox", "keyholder", "recorder", "admin", "front")
VICTIMS = [*itertools.combinations(ROLES, 1), *itertools.combinations(ROLES, 2)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """One signature that was found right, and what its record must say."""

    serial: str
    entry: int
    holes: dict[str, Any]


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with running() as service:
        yield service


@pytest.fixture
def places(service: Service) -> ServiceHome:
    return ServiceHome(service.home / "credsvc")


@pytest.fixture
def roles(places: ServiceHome) -> Roles:
    return Roles(places)


@pytest.fixture(scope="module")
def follower(service: Service) -> Follower:
    return Follower(ServiceHome(service.home / "credsvc"), service="credsvc")


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


def signature_of(path: str, stamp: str) -> str:
    """AWS's own recipe for a GET of an object in S3, with the secret that this test put."""
    headers = f"host:{HOST}\nx-amz-content-sha256:{PAYLOAD}\nx-amz-date:{stamp}\n"
    creq = f"GET\n{path}\n\n{headers}\n{NAMES}\n{PAYLOAD}"
    key = f"AWS4{AWS_SECRET}".encode()
    for part in (stamp[:8], REGION, "s3", "aws4_request"):
        key = _hmac(key, part)
    scope = f"{stamp[:8]}/{REGION}/s3/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(creq.encode()).hexdigest()}"
    return _hmac(key, text).hex()


def asker(service: Service, number: int) -> Callable[[], Answered]:
    """A client of its own identity that asks for another object each time and checks what it gets."""
    agent = service.authority.agent("component", capabilities=["credential:use"])
    client = service.client(agent, is_patient=False)
    paths = (f"/{number}/{count}" for count in itertools.count())

    def ask() -> Answered:
        path = next(paths)
        request = {"method": "GET", "url": f"https://{HOST}{path}", "region": REGION, "service": "s3"}
        signed = client.use("billing-aws", "sign", request)
        stamp = signed.release["header.x-amz-date"]
        found = signed.release["header.authorization"].rpartition("Signature=")[2]
        assert found == signature_of(path, stamp), f"{path} got the signature of another request"
        return Answered(serial=agent.serial, entry=signed.entry, holes=_holes(path, stamp))

    return ask


def _holes(path: str, stamp: str) -> dict[str, Any]:
    headers = {"host": HOST, "x-amz-content-sha256": PAYLOAD, "x-amz-date": stamp}
    return {
        "t": calendar.timegm(time.strptime(stamp, "%Y%m%dT%H%M%SZ")),
        "method": "GET",
        "path": path,
        "region": REGION,
        "service": "s3",
        "payload": PAYLOAD,
        "query": [],
        "headers": [{"name": name, "value": value} for name, value in headers.items()],
    }


def check_recorded(follower: Follower, places: ServiceHome, answers: list[Answered]) -> None:
    """Each signature has an entry of its own, which is about its holes and its asker, in the signed tree."""
    assert answers
    follower.read_through(max(answer.entry for answer in answers))
    assert len({answer.entry for answer in answers}) == len(answers)
    salts = _salts(places.database)
    acts = set()
    for answer in answers:
        entry = follower.entries[answer.entry]
        assert (entry["kind"], entry["decision"]) == ("use", "authorized")
        assert entry["by"]["serial"] == answer.serial
        assert entry["holes"] == salted_holes_digest(salts[answer.entry], answer.holes)
        acts.add(entry["act"])
    assert len(acts) == len(answers)


def _salts(database: Path) -> dict[int, bytes]:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as store:
        return dict(store.execute("SELECT seq, salt FROM ledger_entries WHERE salt IS NOT NULL"))


@pytest.fixture
def load(service: Service) -> Iterator[Load[Answered]]:
    with load_of([asker(service, number) for number in range(CLIENTS)]) as load:
        yield load
        load.stop()
        assert not load.wrong, load.wrong
        # Nobody is refused for another reason than that somebody is away.
        assert {said.partition(":")[0] for said in load.refused} <= {"Busy"}, load.refused


def test_each_role_and_each_pair_of_roles_is_killed_under_load(
    places: ServiceHome, roles: Roles, follower: Follower, load: Load[Answered]
) -> None:
    assert tuple(roles.names()) == ROLES
    chance = random.Random(SEED)
    victims = chance.sample(VICTIMS, len(VICTIMS))
    for names in victims:
        time.sleep(chance.uniform(0.05, 0.5))
        come_back(roles, roles.kill(*names), load)
        check_recorded(follower, places, load.all_answers())
    assert load.refused, "nothing was killed under load"


def test_each_process_below_the_front_and_the_sandbox_is_killed_under_load(
    places: ServiceHome, roles: Roles, follower: Follower, load: Load[Answered]
) -> None:
    """A front's workers, and what the zygote forked; their parents replace them. No role is started again for
    it.
    """
    come_back(roles, {}, load)
    before = roles.pids()
    killed: dict[str, list[int]] = {}
    for role in ("front", "sandbox"):
        killed[role] = descendants(before[role])[1:]
        assert killed[role], role
        for pid in killed[role]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            come_back(roles, {}, load)
    assert roles.pids() == before
    check_recorded(follower, places, load.all_answers())
    load.stop()
    # A sandbox that ends in the middle of a call is its module's fault for all that anybody knows: one
    # request each.
    broken = [said for said in load.refused if said.startswith("InternalFault")]
    assert sum(load.refused.pop(said) for said in broken) <= len(killed["sandbox"])


def test_a_keyholder_that_stands_still_for_three_seconds(
    places: ServiceHome, roles: Roles, follower: Follower, load: Load[Answered]
) -> None:
    come_back(roles, {}, load)
    stopped = roles.signal(signal.SIGSTOP, "keyholder")
    try:
        time.sleep(3)
        before = load.counts()
    finally:
        roles.signal(signal.SIGCONT, "keyholder")
    come_back(roles, {}, load)
    assert load.refused, "nobody waited for the keyholder"
    assert roles.pids()["keyholder"] == stopped["keyholder"], "it was not replaced"
    answers = load.all_answers()
    assert len(answers) > sum(before)
    check_recorded(follower, places, answers)


def test_roles_die_with_their_supervisor_and_its_next_start_goes_on_with_the_ledger(
    service: Service, places: ServiceHome, roles: Roles, follower: Follower, load: Load[Answered]
) -> None:
    come_back(roles, {}, load)
    assert service.process is not None
    before = roles.pids()
    kill_supervisor(service.process, before)
    service.start()  # as a service manager would
    come_back(roles, before, load)
    # The follower accepts only a ledger that begins with everything it has read before.
    check_recorded(follower, places, load.all_answers())
