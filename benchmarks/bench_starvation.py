"""Whether anybody starves a front: honest requests' p99 beside 96 clients that send a body a byte a second,
2,000 idle ones and 200 that never read their answers, against the calm run, on every listener.

The attackers hold certificates of the cluster where the listener asks for one, and come from addresses of
their own (benchmarks/attack.py). The honest clients connect anew every PER_CONNECTION requests, so that who
cannot connect counts, too; whoever waits in vain counts with the time that it waited, and for those who would
have asked meanwhile (`p99_ms`).
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from cryptography import x509

from benchmarks.attack import Attack, attacked
from benchmarks.issuing import MADE_PER_S, Issuing, spawn_request
from benchmarks.load import ROUNDS, SECONDS, Load, Measured, request_bytes, run_load
from benchmarks.peers.ocsp_responders import OCSP_TYPE, questions
from benchmarks.signing import PATH, WARM, Signing
from benchmarks.table import Row, print_table
from ostiary.certificate import SerialHex
from tests.support.ca_service import CA_NODE, running_ca
from tests.support.credential_service import SERVICE_NODE, running
from tests.support.fake_ca import FakeCA
from tests.support.running_manager import start_manager

CLIENTS = 4
PER_CONNECTION = 50
WARM_S = 1.0
_ASKED_PER_S: Final = 10_000
_JSON: Final = "application/json"


@dataclass(frozen=True, kw_only=True)
class Listener:
    """Where somebody listens, what honest clients ask there (made anew for each load), and the attack."""

    name: str
    honest: Callable[[], Load]
    attack: Attack


def get(path: str, host: str) -> bytes:
    """A request without a body."""
    return request_bytes("GET", path, b"", host=host, content_type=_JSON)


def long_post(path: str, host: str, content_type: str = _JSON) -> bytes:
    """A request whose body never ends at a byte a second."""
    return request_bytes("POST", path, b" " * 1000, host=host, content_type=content_type)


def status_listener(issuing: Issuing) -> Listener:
    """Where the CA answers OCSP and hands out CRLs, over plain HTTP."""
    ca, serial = issuing.ca, SerialHex(issuing.nodes[0].spawner.serial)
    issuer = x509.load_pem_x509_certificate(ca.issuing_pem)

    def honest() -> Load:
        requests = [
            request_bytes("POST", "/ocsp", each, host="status", content_type=OCSP_TYPE)
            for each in questions(issuer, [serial], has_nonce=True, count=int(SECONDS * _ASKED_PER_S))
        ]
        return Load(address=ca.status_address, requests=requests, connections=CLIENTS)

    attack = Attack(
        address=ca.status_address,
        slow=[long_post("/ocsp", "status", OCSP_TYPE)],
        quick=get("/healthz", "status"),
        greedy=get("/ca/issuing.cer", "status"),
    )
    return Listener(name="status (OCSP over HTTP)", honest=honest, attack=attack)


def ca_listener(issuing: Issuing) -> Listener:
    """Where the CA makes certificates."""
    ca, node = issuing.ca, issuing.nodes[0]
    identity = issuing.identity(node)

    def honest() -> Load:
        count = int(SECONDS * MADE_PER_S)
        return Load(
            address=ca.address,
            server_name=CA_NODE,
            root_pem=ca.root_pem,
            identities=[identity],
            requests=[spawn_request(node.spawner) for _ in range(count)],
            connections=CLIENTS,
        )

    attack = Attack(
        address=ca.address,
        server_name=CA_NODE,
        root_pem=ca.root_pem,
        identity_pem=identity.pem,
        slow=[
            long_post("/.well-known/est/simplereenroll", CA_NODE, "application/pkcs10"),
            long_post("/v1/agents", CA_NODE),
        ],
        quick=get("/healthz", CA_NODE),
        greedy=get("/.well-known/est/cacerts", CA_NODE),
    )
    return Listener(name="CA (certificates over mTLS)", honest=honest, attack=attack)


def credentials_listener(signing: Signing) -> Listener:
    """Where the credentials service signs."""
    attacker = signing.agents[1]
    attack = Attack(
        address=("127.0.0.1", signing.service.port),
        server_name=SERVICE_NODE,
        root_pem=signing.service.authority.pem,
        identity_pem=attacker.identity_pem,
        slow=[long_post(PATH, SERVICE_NODE), long_post(f"{PATH}/explain", SERVICE_NODE)],
        quick=get("/healthz", SERVICE_NODE),
        greedy=get("/metrics", SERVICE_NODE),
    )
    return Listener(
        name="credentials (signatures)", honest=lambda: signing.prepared(clients=CLIENTS), attack=attack
    )


def manager_listener(socket: Path) -> Listener:
    """The UNIX socket of a node's manager."""
    path = str(socket)
    status = get("/v1/status", "localhost")
    attack = Attack(
        address=path,
        slow=[long_post("/v1/claim", "localhost"), long_post("/v1/agents", "localhost")],
        quick=status,
        greedy=status,
    )
    load = Load(address=path, requests=[status], repeats=True, connections=CLIENTS)
    return Listener(name="manager (status, UNIX socket)", honest=lambda: load, attack=attack)


def compare(listener: Listener) -> Row:
    """Print the calm and the attacked runs, in turn; the ratio of the medians of their p99."""
    print(f"{listener.name}:")
    calm, beside = [], []
    for _ in range(ROUNDS):
        calm.append(_run(listener, "calm"))
        with attacked(listener.attack) as attacking:
            beside.append(_run(listener, "attacked"))
        print(f"    {attacking.told}", flush=True)
    every_s = statistics.median(statistics.mean(done.latencies_s) for done in calm)
    calm_ms, beside_ms = (
        statistics.median(p99_ms(done.latencies_s, every_s) for done in runs) for runs in (calm, beside)
    )
    print(f"    p99 of who asks every {every_s * 1e3:.2f} ms: {calm_ms:.2f} ms, attacked {beside_ms:.2f} ms")
    return Row(name=f"p99 / calm, {listener.name}", measured=beside_ms / calm_ms, unit="", at_most=1.5)


def p99_ms(latencies_s: Sequence[float], every_s: float) -> float:
    """The p99 of clients that would ask every so many seconds.

    Ours ask only when they were answered: while one waits for seconds, it does not make the hundreds of
    requests that would have waited, too. They are added, as HdrHistogram does it for coordinated omission.
    """
    # A request that took n times as long stands for n: of almost all of it, of one time less, and so on.
    waited = [latency - n * every_s for latency in latencies_s for n in range(max(1, int(latency / every_s)))]
    return sorted(waited)[len(waited) * 99 // 100] * 1e3


def _run(listener: Listener, title: str) -> Measured:
    """Run the honest clients."""
    done = run_load(replace(listener.honest(), per_connection=PER_CONNECTION, is_patient=True))
    counts = f"{done.refused} refused, {done.unanswered} in vain, {done.reconnected} connections anew"
    print(f"    {title:9} {done.told()}; {counts}", flush=True)
    return done


def main() -> int:
    """Print the tables; 1 where a front is starved."""
    with running_ca() as ca:
        issuing = Issuing(ca, managers=1)
        issuing.load(clients=CLIENTS, seconds=WARM_S)
        rows = [compare(status_listener(issuing)), compare(ca_listener(issuing))]
    with running() as service:
        service.set_policy(WARM)
        signing = Signing(service, agents=2)
        signing.load(clients=CLIENTS, seconds=WARM_S)
        rows.append(compare(credentials_listener(signing)))
    fake = FakeCA()
    fake.start()
    with tempfile.TemporaryDirectory(prefix="ostiary-") as directory:
        manager = start_manager(fake, Path(directory))
        manager.when_active()
        rows.append(compare(manager_listener(manager.socket)))
        manager.stop()
    fake.stop()
    return print_table(rows)


if __name__ == "__main__":
    sys.exit(main())
