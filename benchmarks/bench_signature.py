"""A SigV4 signature over mTLS, through sandbox, policy and record: p50 with one client, rate with sixteen,
and the cost of each stage.

The whole service runs as it is deployed, on this machine, beside its clients; see docs/performance.md.
"""

from __future__ import annotations

import json
import sys
import time

from benchmarks.load import Load, Measured, request_bytes, run_load
from benchmarks.stages import Stages, cpu_by_role, print_cpu, print_shares, print_turns
from benchmarks.table import Row, print_table
from tests.support.credential_service import SERVICE_NODE, Service, running
from tests.support.identities import Agent

SECONDS = 6.0
WARM_S = 3.0
BUCKET_HOST = "objects.s3.eu-central-1.amazonaws.com"
PATHS = 64
# The recorder shows its numbers once a second.
SHOWN_S = 1.3


def requests() -> list[bytes]:
    """Requests to sign: S3 objects of different names."""
    made = []
    for number in range(PATHS):
        asked = {
            "method": "GET",
            "url": f"https://{BUCKET_HOST}/photos/2026/{number:04}.jpg?partNumber={number}",
            "headers": {"Range": "bytes=0-1023", "Accept": "*/*"},
            "region": "eu-central-1",
            "service": "s3",
        }
        made.append(
            request_bytes(
                "POST",
                "/v1/credentials/billing-aws/operations/sign",
                json.dumps({"request": asked}).encode(),
                host=SERVICE_NODE,
                content_type="application/json",
            )
        )
    return made


def load(service: Service, agent: Agent, *, connections: int, seconds: float) -> Measured:
    """Sign with so many connections for so long."""
    return run_load(
        Load(
            address=("127.0.0.1", service.port),
            server_name=SERVICE_NODE,
            root_pem=service.authority.pem,
            identity_pem=agent.identity_pem,
            requests=requests(),
            repeats=True,
            connections=connections,
            seconds=seconds,
        )
    )


def read_stages(service: Service, agent: Agent) -> tuple[Stages, Stages]:
    """The front's and the recorder's numbers so far."""
    time.sleep(SHOWN_S)
    with service.client(agent)._http() as client:  # noqa: SLF001 - the fixture of the tests
        front = client.request("GET", "/metrics").body.decode()
    return Stages.parse(front), Stages.parse(
        (service.home / "credsvc" / "store" / "recorder.prom").read_text()
    )


def measure(service: Service, agent: Agent, connections: int, *, explain: bool) -> Measured:
    """Run one load and print what it cost where."""
    front, recorder = read_stages(service, agent)
    roles = service.home / "credsvc" / "run" / "roles.json"
    cpu = cpu_by_role(roles)
    done = load(service, agent, connections=connections, seconds=SECONDS)
    spent = cpu_by_role(roles)
    print(
        f"{connections} client(s): {done.rate_per_s:.0f}/s, "
        f"p50 {done.percentile_ms(50):.2f} ms, p99 {done.percentile_ms(99):.2f} ms"
    )
    print_cpu(cpu, spent, done.count, done.cpu_s)
    after_front, after_recorder = read_stages(service, agent)
    count = int(after_front.passes(front, "sandbox"))
    print_turns(recorder, after_recorder, count)
    if explain:
        print_request(front, after_front, recorder, after_recorder, count, done)
    return done


def print_request(
    front: Stages, front_after: Stages, recorder: Stages, recorder_after: Stages, count: int, done: Measured
) -> None:
    """Print a request's life at one client, where each turn has one act and nothing waits for another."""

    def mean(stage: str) -> float:
        return front_after.per_request_us(front, stage, count)

    turn, keyholder = recorder_after.mean_us(recorder, "turn"), recorder_after.mean_us(recorder, "keyholder")
    print_shares(
        "one request",
        sum(done.latencies_s) / done.count * 1e6,
        {
            "falcon, checks, encoding": mean("request") - mean("policy") - mean("sandbox") - mean("recorder"),
            "policy (both decisions)": mean("policy"),
            "sandbox": mean("sandbox"),
            "recorder's turn (durable)": turn,
            "keyholder and its channel": keyholder,
            "channel and waits before the turn": mean("recorder") - turn - keyholder,
        },
    )


def main() -> int:
    """Print the tables; 1 where a number is beyond what docs/performance.md explains."""
    with running() as service:
        agent = service.authority.agent("component", capabilities=["credential:use", "ledger:read"])
        service.set_policy(
            (service.folder / "policy.cedar").read_text()
            + '@id("bench-reads") permit(principal, action == Action::"read", resource);\n'
        )
        load(service, agent, connections=16, seconds=WARM_S)
        one = measure(service, agent, 1, explain=True)
        many = measure(service, agent, 16, explain=False)
    return print_table(
        [
            Row(
                name="signature, 1 client, p50",
                measured=one.percentile_ms(50),
                unit="ms",
                at_most=1.0,
                adr="0011",
            ),
            Row(
                name="signatures, 16 clients", measured=many.rate_per_s, unit="/s", at_least=3000, adr="0011"
            ),
            Row(name="signature, 16 clients, p99", measured=many.percentile_ms(99), unit="ms"),
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
