"""Two thousand attempts at one token, over both workers of the front: one certificate, recorded once."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from ostiary.edge.client import HTTPClient
from ostiary.edge.home import ServiceHome
from ostiary.errors import Busy, Forbidden
from tests.support.ca_service import Agent, RunningCA, new_key, running_ca
from tests.support.killing import Follower

pytestmark = pytest.mark.slow
CLIENTS = 40
ATTEMPTS_EACH = 50


@pytest.fixture(scope="module")
def ca() -> Iterator[RunningCA]:
    with running_ca() as running:
        yield running


def attempts(ca: RunningCA, token: str, barrier: Barrier) -> tuple[bytes, list[Agent | str]]:
    """One client's attempts, each with a key of its own: the certificate of the worker it met, and what came
    of each.
    """
    results: list[Agent | str] = []
    with ca.client() as client:
        client.request("GET", "/healthz")
        worker = client.peer_certificate()
        assert worker is not None
        barrier.wait()
        results += [until_answered(ca, token, client) for _ in range(ATTEMPTS_EACH)]
    return worker, results


def until_answered(ca: RunningCA, token: str, client: HTTPClient) -> Agent | str:
    """One attempt, again with its key while the service is busy: the certificate, or the rule of
    the refusal.
    """
    key = new_key()
    while True:
        try:
            return ca.redeem(token, key, client)
        except Forbidden as exc:
            return exc.rule
        except Busy:
            time.sleep(0.05)


def test_two_thousand_keys_for_one_token_get_one_certificate(ca: RunningCA) -> None:
    made = ca.token("component-harness", capabilities=("credential:use",))
    barrier = Barrier(CLIENTS)
    with ThreadPoolExecutor(CLIENTS) as pool:
        running = [pool.submit(attempts, ca, made["token"], barrier) for _ in range(CLIENTS)]
        shares = [each.result() for each in running]
    results = [result for _, share in shares for result in share]
    assert len({worker for worker, _ in shares}) == 2, "both worker processes took part"
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
    """Ask, again on a new connection where news of the revocation cut the old one off."""
    while True:
        with contextlib.suppress(Busy):
            ca.client(agent).request("GET", "/v1/whoami")
            return
