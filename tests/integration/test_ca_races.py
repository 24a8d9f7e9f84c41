"""Two thousand attempts at one token, over both workers of the front: one certificate, recorded once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from ostiary.edge.home import ServiceHome
from ostiary.edge.http_client import HTTPClient
from ostiary.errors import Forbidden
from tests.support.ca_service import Agent, RunningCA, new_key, running_ca
from tests.support.killing import Follower
from tests.support.waiting import until

pytestmark = pytest.mark.slow
CLIENTS = 40
ATTEMPTS_EACH = 50


@pytest.fixture(scope="module")
def ca() -> Iterator[RunningCA]:
    with running_ca() as running:
        yield running


def worker_of(client: HTTPClient) -> bytes:
    """The certificate of the worker that a client meets."""
    client.request("GET", "/healthz")
    worker = client.peer_certificate()
    assert worker is not None
    return worker


def both_workers(ca: RunningCA) -> list[bytes]:
    found: set[bytes] = set()

    def are_found() -> bool:
        with ca.client() as client:
            found.add(worker_of(client))
        return len(found) == 2

    until(are_found, "the second worker process of the front")
    return sorted(found)


def attempts(ca: RunningCA, token: str, worker: bytes, barrier: Barrier) -> list[Agent | str]:
    """What comes of one client's attempts at one worker, each with a key of its own."""
    with ca.client() as client:
        while worker_of(client) != worker:
            client.close()
        barrier.wait()
        return [outcome_of(ca, token, client) for _ in range(ATTEMPTS_EACH)]


def outcome_of(ca: RunningCA, token: str, client: HTTPClient) -> Agent | str:
    """One attempt: the certificate, or the rule of the refusal."""
    try:
        return ca.redeem(token, new_key(), client)
    except Forbidden as exc:
        return exc.rule


def test_two_thousand_keys_for_one_token_get_one_certificate(ca: RunningCA) -> None:
    made = ca.token("component-harness", capabilities=("credential:use",))
    barrier = Barrier(CLIENTS)
    with ThreadPoolExecutor(CLIENTS) as pool:
        running = [
            pool.submit(attempts, ca, made["token"], worker, barrier)
            for worker in both_workers(ca)
            for _ in range(CLIENTS // 2)
        ]
        results = [result for each in running for result in each.result()]
    won = [result for result in results if isinstance(result, Agent)]
    refused = Counter(result for result in results if isinstance(result, str))
    assert len(results) == CLIENTS * ATTEMPTS_EACH
    assert len(won) == 1, refused
    assert refused == {"token-spent": CLIENTS * ATTEMPTS_EACH - 1}
    issued = [row for row in ca.admin("ca", "certificate", "list") if row["subsystem"] == "component-harness"]
    assert [row["serial_number"] for row in issued] == [won[0].serial]
    _check_recorded(ca, made["id"], won[0])


def _check_recorded(ca: RunningCA, token_id: str, won: Agent) -> None:
    """In the proven ledger: one authorized redemption, everything else denied, one alarm."""
    follower = Follower(ServiceHome(ca.home / "ca"), service="ca")
    follower.read_on()
    attempts = [e for e in follower.entries if e["kind"] == "redeem" and e["token"] == token_id]
    authorized = [entry for entry in attempts if entry["decision"] == "authorized"]
    assert [entry["certificate"]["serial"] for entry in authorized] == [won.serial]
    denied = [entry for entry in attempts if entry["decision"] == "denied"]
    assert len(denied) == len(attempts) - 1 >= CLIENTS * ATTEMPTS_EACH - 1
    assert {entry["rule"] for entry in denied} == {"token-spent"}
    alarms = [entry for entry in follower.entries if entry["kind"] == "alarm"]
    assert [token_id in entry["detail"] for entry in alarms] == [True]


def test_two_keys_for_a_bootstrap_token_void_both(ca: RunningCA) -> None:
    """While the certificate is pending nobody can tell which of the two is the node's."""
    document = ca.admin("ca", "bootstrap", "--node", "n3.nodes.shop.example")
    token = document["tokens"]["node-controller"]["token"]
    first = ca.redeem(token, new_key())
    with pytest.raises(Forbidden) as contested:
        ca.redeem(token, new_key())
    assert contested.value.rule == "token-contested"
    with pytest.raises(Forbidden) as void:
        _whoami(ca, first)
    assert void.value.rule == "certificate-revoked"


def _whoami(ca: RunningCA, agent: Agent) -> None:
    """Ask; again on a new connection where news of the revocation cut the old one off."""
    ca.client(agent).request("GET", "/v1/whoami")
