"""A SigV4 signature over mTLS, through sandbox, policy and record: p50 with one client, rate with sixteen, of
one agent and of a thousand, with decisions that are remembered and that are new; and the cost of each stage.

Every request is for another object, and certificates are revoked meanwhile. The whole service runs as it is
deployed, on this machine, beside its clients; see docs/performance.md.
"""

from __future__ import annotations

import sys

from benchmarks.load import AGENTS, Measured
from benchmarks.profiling import profiled
from benchmarks.signing import BATCH, BATCHED, COLD, WARM, Signing
from benchmarks.stages import Stages, print_cpu, print_shares, print_turns
from benchmarks.table import Row, print_table
from tests.support.credential_service import running

WARM_S = 3.0
BATCHING = 4
"""Clients that send batches: 256 requests in flight."""


def measure(signing: Signing, title: str, *, clients: int, agents: int = 1) -> Measured:
    """Run one load and print what it cost where."""
    front, recorder = signing.stages()
    profile = profiled(title, signing.roles)
    done = signing.load(clients=clients, agents=agents, during=profile)
    print(f"{title}: {done.told()}")
    print_cpu(done)
    front_after, recorder_after = signing.stages()
    count = int(front_after.passes(front, "sandbox"))
    print_turns(recorder, recorder_after, count)
    if clients == 1:
        print_request(front, front_after, recorder, recorder_after, count, done)
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


def batches(signing: Signing) -> list[Row]:
    """Signatures in batches, each item its own path."""
    if not signing.has_batches():
        print(f"batches of {BATCH}: this service takes none yet")
        return []
    profile = profiled("batches", signing.roles)
    done = signing.load(clients=BATCHING, request=BATCHED, during=profile)
    print(f"batches of {BATCH}, {BATCHING} clients: {done.told()}")
    print_cpu(done)
    return [
        Row(name=f"signatures in batches of {BATCH}", measured=done.rate_per_s * BATCH, unit="/s"),
        Row(name=f"batch of {BATCH}, {BATCHING} clients, p50", measured=done.percentile_ms(50), unit="ms"),
    ]


def main() -> int:
    """Print the tables; 1 where a number is beyond what docs/performance.md explains."""
    with running() as service:
        signing = Signing(service, agents=AGENTS)
        service.set_policy(WARM)
        signing.load(clients=16, seconds=WARM_S)
        one = measure(signing, "1 client", clients=1)
        many = measure(signing, "16 clients of 1 agent", clients=16)
        crowd = measure(signing, f"16 clients of {AGENTS} agents", clients=16, agents=AGENTS)
        batched = batches(signing)
        service.set_policy(COLD)
        cold_one = measure(signing, "1 client, each decision new", clients=1)
        cold = measure(signing, "16 clients, each decision new", clients=16)
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
            Row(name=f"signatures, 16 of {AGENTS} agents", measured=crowd.rate_per_s, unit="/s"),
            Row(name=f"signature, 16 of {AGENTS} agents, p99", measured=crowd.percentile_ms(99), unit="ms"),
            Row(
                name="signature, new decision, 1 client, p50", measured=cold_one.percentile_ms(50), unit="ms"
            ),
            Row(name="signatures, new decisions, 16 clients", measured=cold.rate_per_s, unit="/s"),
            *batched,
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
