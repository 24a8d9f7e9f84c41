"""A CA whose processes are killed under load: every certificate has its client's key, verifies, and is in the
ledger, and the CA recovers by itself.

Managers ask for new agents over mTLS, each with a key of its own, and ask again with that key if the answer
was lost.
"""

from __future__ import annotations

import base64
import itertools
import random
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import pytest
from cryptography import x509

from ostiary.certificate import serial_hex
from ostiary.edge.home import ServiceHome
from ostiary.identity import identity_of
from tests.support.ca_service import APPLICATION, NODE, Agent, RunningCA, csr_of, new_key, running_ca
from tests.support.killing import Follower, Load, Roles, come_back, kill_supervisor, load_of
from tests.support.waiting import until

pytestmark = pytest.mark.slow
CLIENTS = 12
SEED = 20261122
ROLES = ("keyholder", "recorder", "responder", "admin", "front", "status")
VICTIMS = [*itertools.combinations(ROLES, 1), *itertools.combinations(ROLES, 2)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """A certificate that was found right."""

    agent: str
    serial: str
    tbs: str


@pytest.fixture(scope="module")
def ca() -> Iterator[RunningCA]:
    with running_ca() as ca:
        yield ca


@pytest.fixture(scope="module")
def follower(ca: RunningCA) -> Follower:
    return Follower(ServiceHome(ca.home / "ca"), service="ca")


@pytest.fixture
def roles(ca: RunningCA) -> Roles:
    return Roles(ServiceHome(ca.home / "ca"))


@pytest.fixture
def load(ca: RunningCA) -> Iterator[Load[Issued]]:
    manager = ca.enroll("certificate-manager", capabilities=("enroll:node",))
    controller = ca.enroll("node-controller", capabilities=("spawn:component-harness",))
    with load_of([asker(ca, manager, controller) for _ in range(CLIENTS)]) as load:
        yield load
        load.stop()
        assert not load.wrong, load.wrong
        # Nobody is refused for another reason than that somebody is away.
        assert {said.partition(":")[0] for said in load.refused} <= {"Busy"}, load.refused


def asker(ca: RunningCA, manager: Agent, controller: Agent) -> Callable[[], Issued]:
    """A client that asks for another agent each time, for the same one again until it is answered."""
    client = ca.client(manager, is_patient=False)
    issuing = x509.load_pem_x509_certificate(ca.issuing_pem)
    wanted = _Wanted()

    def ask() -> Issued:
        body = {
            "subsystem": "component-harness",
            "capabilities": ["credential:use"],
            "endpoints": [],
            "spawner": controller.serial,
            "csr": base64.b64encode(csr_of(wanted.key)).decode(),
            "agent": wanted.agent,
        }
        answer = client.call("POST", "/v1/agents", body, type_=dict[str, str])
        certificate = x509.load_pem_x509_certificate(answer["certificate"].encode())
        certificate.verify_directly_issued_by(issuing)
        assert certificate.public_key() == wanted.key.public_key(), "another's certificate"
        identity = identity_of(certificate)
        found = (identity.application, identity.subsystem, identity.node, identity.agent)
        assert found == (APPLICATION, "component-harness", NODE, wanted.agent)
        assert identity.capabilities == {"credential:use"}
        issued = Issued(
            agent=wanted.agent,
            serial=serial_hex(certificate.serial_number),
            tbs=sha256(certificate.tbs_certificate_bytes).hexdigest(),
        )
        wanted.renew()
        return issued

    return ask


class _Wanted:
    """The agent that a client asks for now."""

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        self.agent, self.key = str(uuid.uuid4()), new_key()


def check_recorded(follower: Follower, issued: list[Issued]) -> None:
    """Each certificate is in the signed tree, as it is; nobody's agent has two."""
    assert issued
    by_agent = _spawned(follower, {each.agent for each in issued})
    assert len({each.serial for each in issued}) == len(issued)
    for each in issued:
        recorded = by_agent[each.agent]
        assert [(entry["serial"], entry["tbs"]) for entry in recorded] == [(each.serial, each.tbs)]


def _spawned(follower: Follower, agents: set[str]) -> dict[str, list[dict[str, Any]]]:
    """What the ledger says was issued for these agents; waits until each is under a signed checkpoint."""
    found: dict[str, list[dict[str, Any]]] = {}

    def are_all_there() -> bool:
        follower.read_on()
        found.clear()
        for entry in follower.entries:
            if (entry["kind"], entry["decision"]) == ("spawn", "authorized"):
                found.setdefault(entry["certificate"]["agent"], []).append(entry["certificate"])
        return agents <= found.keys()

    until(are_all_there, lambda: f"the entries of {agents - found.keys()}")
    return found


def test_each_role_and_each_pair_of_roles_is_killed_under_load(
    roles: Roles, follower: Follower, load: Load[Issued]
) -> None:
    assert tuple(roles.names()) == ROLES
    chance = random.Random(SEED)
    victims = chance.sample(VICTIMS, len(VICTIMS))
    for names in victims:
        time.sleep(chance.uniform(0.05, 0.5))
        come_back(roles, roles.kill(*names), load)
        check_recorded(follower, load.all_answers())
    assert load.refused, "nothing was killed under load"


def test_a_keyholder_that_stands_still_for_three_seconds(
    roles: Roles, follower: Follower, load: Load[Issued]
) -> None:
    come_back(roles, {}, load)
    stopped = roles.signal(signal.SIGSTOP, "keyholder")
    try:
        time.sleep(3)
    finally:
        roles.signal(signal.SIGCONT, "keyholder")
    come_back(roles, {}, load)
    assert load.refused, "nobody waited for the keyholder"
    assert roles.pids()["keyholder"] == stopped["keyholder"], "it was not replaced"
    check_recorded(follower, load.all_answers())


def test_roles_die_with_their_supervisor_and_its_next_start_goes_on_with_the_ledger(
    ca: RunningCA, roles: Roles, follower: Follower, load: Load[Issued]
) -> None:
    come_back(roles, {}, load)
    assert ca.process is not None
    before = roles.pids()
    kill_supervisor(ca.process, before)
    ca.start()  # as a service manager would; it has a limit of its own, longer than a role's that comes back
    come_back(roles, before, load)
    # The follower accepts only a ledger that begins with everything it has read before.
    check_recorded(follower, load.all_answers())
