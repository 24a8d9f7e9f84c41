"""Certificates issued over keep-alive mTLS, durable and logged: rate and p99 with eight clients, of one
manager and of a thousand, and the cost of each stage.

A manager asks for agents spawned on its node (POST /v1/agents), each with a key and an id of its own; keys
and CSRs are made before the clock starts. The whole CA runs as it is deployed, on this machine, beside its
clients, and certificates are revoked meanwhile; see docs/performance.md.
"""

from __future__ import annotations

import sys

from benchmarks.issuing import Issuing
from benchmarks.load import AGENTS, Measured
from benchmarks.profiling import profiled
from benchmarks.stages import print_cpu, print_shares, print_turns
from benchmarks.table import Row, print_table
from tests.support.ca_service import running_ca

WARM_S = 3.0


def measure(issuing: Issuing, title: str, *, clients: int, managers: int = 1) -> Measured:
    """Run one load and print what it cost where."""
    front, recorder = issuing.stages()
    profile = profiled(title, issuing.roles)
    done = issuing.load(clients=clients, managers=managers, during=profile)
    print(f"{title}: {done.told()}")
    print_cpu(done)
    front_after, recorder_after = issuing.stages()
    print_turns(recorder, recorder_after, int(front_after.passes(front, "prepare")))
    if clients == 1:
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
        issuing = Issuing(ca, managers=AGENTS)
        issuing.load(clients=8, seconds=WARM_S)
        one = measure(issuing, "1 client", clients=1)
        many = measure(issuing, "8 clients of 1 manager", clients=8)
        crowd = measure(issuing, f"8 clients of {AGENTS} managers", clients=8, managers=AGENTS)
    return print_table(
        [
            Row(name="issuance, 8 clients", measured=many.rate_per_s, unit="/s", at_least=2000, adr="0011"),
            Row(name="issuance, 8 clients, p99", measured=many.percentile_ms(99), unit="ms", at_most=25.0),
            Row(name="issuance, 1 client, p50", measured=one.percentile_ms(50), unit="ms"),
            Row(name=f"issuance, 8 of {AGENTS} managers", measured=crowd.rate_per_s, unit="/s"),
            Row(name=f"issuance, 8 of {AGENTS} managers, p99", measured=crowd.percentile_ms(99), unit="ms"),
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
