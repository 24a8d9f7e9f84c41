"""Certificates issued over keep-alive mTLS, durable and logged: rate and p99 with eight clients, and the cost
of each stage.

A manager asks for agents spawned on its node (POST /v1/agents), each with a key and an id of its own; keys
and CSRs are made before the clock starts. The whole CA runs as it is deployed, on this machine, beside its
clients; see docs/performance.md.
"""

from __future__ import annotations

import base64
import json
import sys
import time
import uuid
from collections.abc import Iterator

from cryptography import x509

from benchmarks.load import Load, Measured, request_bytes, run_load
from benchmarks.stages import Stages, cpu_by_role, print_cpu, print_shares, print_turns
from benchmarks.table import Row, print_table
from ostiary.edge.tls import build_identity_pem
from tests.support.ca_service import CA_NODE, Agent, RunningCA, csr_of, new_key, running_ca

SECONDS = 6.0
WARM_S = 3.0
MADE_PER_S = 2500
"""Requests made for each second of a load; one that runs out of them ends early."""
SHOWN_S = 1.3


def requests(spawner: Agent, count: int) -> Iterator[bytes]:
    """Requests for new agents."""
    for _ in range(count):
        asked = {
            "subsystem": "component-harness",
            "capabilities": ["credential:use"],
            "endpoints": [],
            "spawner": spawner.serial,
            "csr": base64.b64encode(csr_of(new_key())).decode(),
            "agent": str(uuid.uuid4()),
        }
        body = json.dumps(asked).encode()
        yield request_bytes("POST", "/v1/agents", body, host=CA_NODE, content_type="application/json")


def load(ca: RunningCA, manager: Agent, spawner: Agent, *, connections: int, seconds: float) -> Measured:
    """Ask with so many connections for so long."""
    issuing = x509.load_pem_x509_certificate(ca.issuing_pem)
    return run_load(
        Load(
            address=ca.address,
            server_name=CA_NODE,
            root_pem=ca.root_pem,
            identity_pem=build_identity_pem(manager.key, [manager.certificate, issuing]),
            requests=list(requests(spawner, int(seconds * MADE_PER_S))),
            repeats=False,
            connections=connections,
            seconds=seconds,
        )
    )


def read_stages(ca: RunningCA, manager: Agent) -> tuple[Stages, Stages]:
    """The front's and the recorder's numbers so far."""
    time.sleep(SHOWN_S)
    front = ca.client(manager).request("GET", "/metrics").body.decode()
    return Stages.parse(front), Stages.parse((ca.home / "ca" / "store" / "recorder.prom").read_text())


def measure(ca: RunningCA, manager: Agent, spawner: Agent, connections: int) -> Measured:
    """Run one load and print what it cost where."""
    front, recorder = read_stages(ca, manager)
    roles = ca.home / "ca" / "run" / "roles.json"
    cpu = cpu_by_role(roles)
    done = load(ca, manager, spawner, connections=connections, seconds=SECONDS)
    spent = cpu_by_role(roles)
    print(
        f"{connections} client(s): {done.rate_per_s:.0f}/s, "
        f"p50 {done.percentile_ms(50):.2f} ms, p99 {done.percentile_ms(99):.2f} ms"
    )
    print_cpu(cpu, spent, done.count, done.cpu_s)
    front_after, recorder_after = read_stages(ca, manager)
    count = int(front_after.passes(front, "prepare"))
    print_turns(recorder, recorder_after, count)
    if connections == 1:
        turn, keyholder = (
            recorder_after.mean_us(recorder, "turn"),
            recorder_after.mean_us(recorder, "keyholder"),
        )
        print_shares(
            "one request",
            sum(done.latencies_s) / done.count * 1e6,
            {
                "accepting the CSR": front_after.mean_us(front, "accept"),
                "preparing the certificate": front_after.mean_us(front, "prepare"),
                "recorder's turn (durable)": turn,
                "keyholder and its channel": keyholder,
                "channel and waits before the turn": front_after.mean_us(front, "recorder")
                - turn
                - keyholder,
            },
        )
    return done


def main() -> int:
    """Print the tables; 1 where a number is beyond what docs/performance.md explains."""
    with running_ca() as ca:
        manager = ca.enroll("certificate-manager", capabilities=("enroll:node",))
        spawner = ca.enroll("node-controller", capabilities=("spawn:component-harness",))
        load(ca, manager, spawner, connections=8, seconds=WARM_S)
        one = measure(ca, manager, spawner, 1)
        many = measure(ca, manager, spawner, 8)
    return print_table(
        [
            Row(name="issuance, 8 clients", measured=many.rate_per_s, unit="/s", at_least=2000, adr="0011"),
            Row(name="issuance, 8 clients, p99", measured=many.percentile_ms(99), unit="ms", at_most=25.0),
            Row(name="issuance, 1 client, p50", measured=one.percentile_ms(50), unit="ms"),
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
