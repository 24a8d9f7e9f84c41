"""OCSP answers per second, cached and newly signed, and the delay until a revocation shows.

Requests go to the status front over plain HTTP, as clients of AIA URLs send them. The whole CA runs beside
them; see docs/performance.md.
"""

from __future__ import annotations

import os
import sys
import time
from functools import partial

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from benchmarks.load import SECONDS, Load, Measured, request_bytes, run_load
from benchmarks.stages import cpu_by_role, print_cpu
from benchmarks.table import Row, print_table
from ostiary.edge.http_client import HTTPClient, tcp_connector
from tests.support.ca_service import Agent, RunningCA, running_ca

CLIENTS = 8
NONCES = 100_000
REVOCATIONS = 10
OCSP_TYPE = "application/ocsp-request"


def question(ca: RunningCA, agent: Agent, nonce: bytes | None = None) -> bytes:
    """An OCSPRequest (DER)."""
    issuing = x509.load_pem_x509_certificate(ca.issuing_pem)
    builder = ocsp.OCSPRequestBuilder().add_certificate(agent.certificate, issuing, hashes.SHA256())
    if nonce is not None:
        builder = builder.add_extension(x509.OCSPNonce(nonce), critical=False)
    return builder.build().public_bytes(Encoding.DER)


def nonced_questions(ca: RunningCA, agent: Agent, count: int) -> list[bytes]:
    """OCSPRequests with a nonce each."""
    marker = bytes(range(16))
    before, _, after = question(ca, agent, marker).partition(marker)
    return [before + os.urandom(16) + after for _ in range(count)]


def load(ca: RunningCA, questions: list[bytes], title: str) -> Measured:
    """Ask these over and over and print the rate and its cost."""
    done = run_load(
        Load(
            address=ca.status_address,
            requests=[
                request_bytes("POST", "/ocsp", each, host="status", content_type=OCSP_TYPE)
                for each in questions
            ],
            repeats=True,
            connections=CLIENTS,
            seconds=SECONDS,
        ),
        cpu=partial(cpu_by_role, ca.home / "ca" / "run" / "roles.json"),
    )
    print(f"{title}: {done.told()}")
    print_cpu(done)
    return done


def seconds_until_revoked(ca: RunningCA, agent: Agent) -> float:
    """From the answer to a revocation until OCSP says so to one who asks all the time, without a nonce."""
    asked = question(ca, agent)
    if status(ca, asked) is not ocsp.OCSPCertStatus.GOOD:  # which the responder keeps
        raise AssertionError("revoked too early")
    ca.revoke(agent, agent.serial)
    began = time.monotonic()
    while status(ca, asked) is not ocsp.OCSPCertStatus.REVOKED:
        time.sleep(0.005)
    return time.monotonic() - began


def status(ca: RunningCA, asked: bytes) -> ocsp.OCSPCertStatus:
    """What OCSP says now."""
    with HTTPClient(tcp_connector(ca.status_address, timeout_s=5.0), host="status") as client:
        answer = client.request("POST", "/ocsp", body=asked, content_type=OCSP_TYPE)
    return ocsp.load_der_ocsp_response(answer.body).certificate_status


def main() -> int:
    """Print the tables; 1 where a number is beyond what docs/performance.md explains."""
    with running_ca() as ca:
        agents = [
            ca.enroll("component-harness", capabilities=("credential:use",)) for _ in range(REVOCATIONS)
        ]
        plain = [question(ca, agent) for agent in agents]
        kept = load(ca, plain, "OCSP, answers kept")
        nonced = nonced_questions(ca, agents[0], NONCES)
        fresh = load(ca, nonced, "OCSP, signed afresh")
        shown = [seconds_until_revoked(ca, agent) for agent in agents]
    return print_table(
        [
            Row(name="OCSP, kept answers", measured=kept.rate_per_s, unit="/s", at_least=5000),
            Row(name="OCSP, signed afresh", measured=fresh.rate_per_s, unit="/s", at_least=2000),
            Row(name="revoked to visible, slowest of ten", measured=max(shown), unit="s", at_most=1.0),
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
