"""Two thousand attempts at one token, over both worker processes of the front: one certificate."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from ostiary.errors import Busy, Forbidden
from tests.integration.ca_service import Agent, RunningCA, new_key, running_ca

pytestmark = pytest.mark.slow
CLIENTS = 40
ATTEMPTS_EACH = 50


@pytest.fixture(scope="module")
def ca() -> Iterator[RunningCA]:
    with running_ca() as running:
        yield running


def attempts(ca: RunningCA, token: str, barrier: Barrier) -> list[Agent | str]:
    """One client's attempts, each with a key of its own; what came of each."""
    results: list[Agent | str] = []
    with ca.client() as client:
        client.request("GET", "/healthz")
        barrier.wait()
        for _ in range(ATTEMPTS_EACH):
            try:
                results.append(ca.redeem(token, new_key(), client))
            except Forbidden as exc:
                results.append(exc.rule)
            except Busy:
                results.append("busy")
    return results


def test_two_thousand_keys_for_one_token_get_one_certificate(ca: RunningCA) -> None:
    token = ca.token("component-harness", capabilities=("credential:use",))["token"]
    barrier = Barrier(CLIENTS)
    with ThreadPoolExecutor(CLIENTS) as pool:
        running = [pool.submit(attempts, ca, token, barrier) for _ in range(CLIENTS)]
        results = [result for each in running for result in each.result()]
    won = [result for result in results if isinstance(result, Agent)]
    refused = Counter(result for result in results if isinstance(result, str))
    assert len(results) == CLIENTS * ATTEMPTS_EACH
    assert len(won) == 1, refused
    assert set(refused) <= {"token-spent", "busy"}, refused
    issued = [row for row in ca.admin("ca", "certificate", "list") if row["subsystem"] == "component-harness"]
    assert [row["serial_number"] for row in issued] == [won[0].serial]


def test_two_keys_for_a_bootstrap_token_void_both(ca: RunningCA) -> None:
    """While the certificate is pending nobody can tell which of the two is the node's."""
    document = ca.admin("ca", "bootstrap", "--node", "n3.nodes.shop.example")
    token = document["tokens"]["node-controller"]["token"]
    first = ca.redeem(token, new_key())
    with pytest.raises(Forbidden) as contested:
        ca.redeem(token, new_key())
    assert contested.value.rule == "token-contested"
    with pytest.raises(Forbidden) as void:
        ca.client(first).request("GET", "/v1/whoami")
    assert void.value.rule == "certificate-revoked"
