"""How soon what happened is known elsewhere, and what small acts cost: numbers that no test asserts, since
a slow machine is not wrong.

Each "how soon" is the slowest of TIMES in a service that has nothing else to do; the costs are medians of
this process alone.
"""

from __future__ import annotations

import contextlib
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from benchmarks.table import Row, print_table
from ca.certificates.profile import build_tbs
from credsvc.formula.evaluate import Memo, evaluate
from ostiary.edge.home import ServiceHome
from ostiary.edge.tls import client_context
from ostiary.errors import Busy, Forbidden
from ostiary.identity import identity_of
from tests.support.ca_authority import AuthorityForTests
from tests.support.ca_service import RunningCA, running_ca
from tests.support.certificates import build_certificate
from tests.support.credential_service import Service, running
from tests.support.fake_ca import FakeCA
from tests.support.fronts import NAME, Site, ask
from tests.support.killing import Roles
from tests.support.manifests import build, operation
from tests.support.running_manager import ClaimingProgram, start_manager

TIMES = 5
REPEATS = 2000
ROLES = ("keyholder", "recorder", "admin", "front")
_CHAIN = (
    "k = hmac(sha256, hmac(sha256, 'v' !key, $t.date), $word)\nrelease x = hex(hmac(sha256, k, 'm:' $other))"
)


def seconds_until(condition: Callable[[], bool]) -> float:
    """How long it takes until asking all the time gets a yes."""
    began = time.monotonic()
    while not condition():
        time.sleep(0.002)
    return time.monotonic() - began


def end_of_a_program() -> float:
    """From the end of an agent's program to its revocation at the authority."""
    fake = FakeCA()
    fake.start()
    with tempfile.TemporaryDirectory(prefix="ostiary-") as directory:
        running_manager = start_manager(fake, Path(directory))
        running_manager.when_active()
        controller = ClaimingProgram(running_manager)
        controller("claim", token=running_manager.controller["token"])
        slowest_s = 0.0
        for _ in range(TIMES):
            spawned = controller("request", subsystem="component-harness", capabilities=["credential:use"])
            agent, program = spawned["agent"], ClaimingProgram(running_manager)
            program("claim", token=spawned["token"])
            program.process.kill()
            program.process.wait()
            took_s = seconds_until(lambda: fake.of_agent(agent)[0].status == "revoked")  # noqa: B023
            slowest_s = max(slowest_s, took_s)
        controller.end()
        running_manager.stop()
    fake.stop()
    return slowest_s


def revocation_to_waiter(ca: RunningCA) -> float:
    """From the answer to a revocation to the answer of whoever waits on the feed."""
    watcher = ca.client(ca.enroll("component-harness"))
    slowest_s = 0.0
    for _ in range(TIMES):
        agent = ca.enroll("component-harness")
        since = watcher.call("GET", "/v1/revocations", type_=dict[str, Any])["next"]
        path = f"/v1/revocations?since={since}&wait=30"
        waiter = threading.Thread(target=lambda path=path: watcher.request("GET", path))
        waiter.start()
        time.sleep(0.2)
        ca.revoke(agent, agent.serial)
        began = time.monotonic()
        waiter.join()
        slowest_s = max(slowest_s, time.monotonic() - began)
    return slowest_s


def revocation_to_refusal(service: Service) -> float:
    """From a revocation to the first refusal by the credentials service, on a connection opened before."""
    slowest_s = 0.0
    for _ in range(TIMES):
        agent = service.authority.agent("component", capabilities=["credential:use"])
        client = service.client(agent, is_patient=False)
        client.use("grid", "sign", {})
        service.ca.revoke(agent.serial)

        def is_refused() -> bool:
            try:
                client.use("grid", "sign", {})  # noqa: B023
            except (Forbidden, Busy):
                return True
            return False

        slowest_s = max(slowest_s, seconds_until(is_refused))
    return slowest_s


def kill_to_answer(service: Service) -> float:
    """From the SIGKILL of a role, each in turn, to the next signature."""
    roles = Roles(ServiceHome(service.home / "credsvc"))
    agent = service.authority.agent("component", capabilities=["credential:use"])
    client = service.client(agent, is_patient=False)
    slowest_s = 0.0
    for name in ROLES:
        killed = roles.kill(name)

        def is_back() -> bool:
            with contextlib.suppress(Busy):
                return roles.are_back(killed) and bool(client.use("grid", "sign", {}))  # noqa: B023
            return False

        slowest_s = max(slowest_s, seconds_until(is_back))
    return slowest_s


def first_request() -> float:
    """A connection's first request by a client that left TCP_NODELAY off, median."""
    site = Site("required")
    context = client_context(site.root.pem, site.client.identity_pem)
    durations = []
    for _ in range(50):
        with socket.create_connection(site.running.address) as raw:
            sock = context.wrap_socket(raw, server_hostname=NAME)
            began = time.perf_counter()
            ask(sock)
            durations.append(time.perf_counter() - began)
            sock.close()
    site.running.stop()
    return statistics.median(durations)


def median_us(act: Callable[[], object]) -> float:
    """The median duration of one act, in microseconds."""
    durations = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        act()
        durations.append(time.perf_counter() - began)
    return statistics.median(durations) * 1e6


def costs() -> list[Row]:
    """What is done for each request, alone."""
    authority = AuthorityForTests()
    plan = authority.plan()
    encoded = build_certificate().public_bytes(Encoding.DER)
    manifest, memo, now = build(operation("op", _CHAIN)), Memo(), datetime.now(UTC)
    holes = {"t": int(now.timestamp()), "word": "a", "other": "x"}

    def formula() -> object:
        return evaluate(
            manifest,
            "op",
            holes,
            operation=None,
            shareable={"id": "me"},
            confidential=dict.fromkeys(manifest.confidential, b"k" * 32),
            ceiling={},
            now=now,
            memo=memo,
        )

    written = median_us(lambda: build_tbs(authority.profile, plan))
    read = median_us(lambda: identity_of(x509.load_der_x509_certificate(encoded)))
    return [
        Row(name="a certificate's bytes written", measured=written, unit="us", at_most=30.0),
        Row(name="an identity read", measured=read, unit="us", at_most=80.0),
        Row(name="a formula evaluated", measured=median_us(formula), unit="us", at_most=30.0),
    ]


def main() -> int:
    """Print the table; 1 where a number is beyond what docs/performance.md explains."""
    with running_ca() as ca:
        heard_s = revocation_to_waiter(ca)
    with running() as service:
        refused_s, back_s = revocation_to_refusal(service), kill_to_answer(service)
    return print_table(
        [
            Row(name="program ended to revoked", measured=end_of_a_program(), unit="s", at_most=1.0),
            Row(name="revoked to heard on the feed", measured=heard_s, unit="s", at_most=1.0),
            Row(name="revoked to refused, open connection", measured=refused_s, unit="s", at_most=1.0),
            Row(name="role killed to next signature", measured=back_s, unit="s", at_most=10.0),
            Row(
                name="first request of a connection", measured=first_request() * 1e3, unit="ms", at_most=30.0
            ),
            *costs(),
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
