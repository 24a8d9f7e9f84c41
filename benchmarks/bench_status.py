"""OCSP answers per second, kept and newly signed, beside `openssl ocsp`; and how late revocations show.

    make bench ARGS=status                  # beside `openssl ocsp`
    PEERS=dir make bench ARGS=status        # dir has cfssl: also beside its `ocspserve`

Requests go to the status front over plain HTTP, as clients of AIA URLs send them. CA and peers are asked in
turn, ROUNDS times, and a ratio is the median of those of the rounds. `openssl ocsp` closes each connection
after its answer: it is compared with ours by clients that connect for each request, and with ours by clients
that keep their connections.
"""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from cryptography import x509
from cryptography.x509 import ocsp

from benchmarks.load import Measured, run_load
from benchmarks.peers.ocsp_responders import (
    OCSP_TYPE,
    CFSSLResponder,
    OpenSSLResponder,
    Responder,
    ocsp_load,
    questions,
)
from benchmarks.peers.server import find
from benchmarks.stages import cpu_by_role, print_cpu
from benchmarks.table import Row, print_table
from ostiary.certificate import SerialHex
from tests.support.ca_roles import StatusCA, status_ca

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
CLIENTS = 8
CERTIFICATES = 200
NONCES = 50_000
REVOCATIONS = 10
KEPT, FRESH = "kept answers", "signed afresh"
EACH = "a connection each"
OPENSSL, CFSSL = OpenSSLResponder.name, CFSSLResponder.name


class Site:
    """A CA with certificates, and what clients ask about them."""

    def __init__(self, ca: StatusCA) -> None:
        self.ca = ca
        self.issuing: x509.Certificate = ca.home.issuing()
        self.serials = ca.issue(CERTIFICATES)
        self._asked = {
            KEPT: questions(self.issuing, self.serials, has_nonce=False, count=CERTIFICATES),
            FRESH: questions(self.issuing, self.serials, has_nonce=True, count=NONCES),
        }

    def ask(self, what: str, *, per_connection: int) -> Measured:
        """Ask these over and over."""
        load = ocsp_load(
            self.ca.status_address,
            "/ocsp",
            self._asked[what],
            clients=CLIENTS,
            per_connection=per_connection,
        )
        return run_load(load, cpu=partial(cpu_by_role, self.ca.home.places.roles))

    def seconds_until_revoked(self, serial: SerialHex) -> float:
        """From the answer to a revocation until OCSP says so to one who asks without a pause or a nonce."""
        (asked,) = questions(self.issuing, [serial], has_nonce=False, count=1)
        if self._status(asked) is not ocsp.OCSPCertStatus.GOOD:  # which is kept now
            raise AssertionError("revoked too early")
        self.ca.revoke(serial)
        began = time.monotonic()
        while self._status(asked) is not ocsp.OCSPCertStatus.REVOKED:
            time.sleep(0.005)
        return time.monotonic() - began

    def _status(self, asked: bytes) -> ocsp.OCSPCertStatus:
        answer = self.ca.ask("POST", "/ocsp", asked, OCSP_TYPE)
        return ocsp.load_der_ocsp_response(answer.body).certificate_status


def measure(site: Site, peers: Mapping[str, Responder]) -> dict[str, list[Measured]]:
    """Ask ours and theirs in turn, ROUNDS times; what was measured, by its name."""
    ways: dict[str, Callable[[], Measured]] = {
        KEPT: partial(site.ask, KEPT, per_connection=0),
        FRESH: partial(site.ask, FRESH, per_connection=0),
        f"{KEPT}, {EACH}": partial(site.ask, KEPT, per_connection=1),
        f"{FRESH}, {EACH}": partial(site.ask, FRESH, per_connection=1),
    }
    if OPENSSL in peers:
        ways[OPENSSL] = partial(peers[OPENSSL].ask, clients=CLIENTS, per_connection=1, has_nonce=True)
    if CFSSL in peers:
        ways[CFSSL] = partial(peers[CFSSL].ask, clients=CLIENTS, per_connection=0, has_nonce=False)
    rounds: dict[str, list[Measured]] = defaultdict(list)
    for _ in range(ROUNDS):
        for name, ask in ways.items():
            done = ask()
            rounds[name].append(done)
            print(f"{name}: {done.told()}" + (f", {done.refused} refused" if done.refused else ""))
            print_cpu(done)
    return rounds


def ratio(rounds: Mapping[str, list[Measured]], ours: str, theirs: str, *, at_least: float) -> Row:
    """The median of the rounds' ratios."""
    ratios = [
        one.rate_per_s / other.rate_per_s for one, other in zip(rounds[ours], rounds[theirs], strict=True)
    ]
    return Row(
        name=f"OCSP, {ours} / {theirs}", measured=statistics.median(ratios), unit="", at_least=at_least
    )


def rate(rounds: Mapping[str, list[Measured]], name: str, *, at_least: float) -> Row:
    """The median of the rounds' rates."""
    rates = [done.rate_per_s for done in rounds[name]]
    return Row(name=f"OCSP, {name}", measured=statistics.median(rates), unit="/s", at_least=at_least)


def main() -> int:
    """Print the tables; 1 where a number is beyond what docs/performance.md explains."""
    openssl, cfssl = shutil.which("openssl"), find("cfssl")
    with ExitStack() as running:
        peers: dict[str, Responder] = {}
        if openssl is not None:
            peers[OPENSSL] = running.enter_context(OpenSSLResponder(Path(openssl)))
        if cfssl is not None:
            peers[CFSSL] = running.enter_context(CFSSLResponder(cfssl))
        site = Site(running.enter_context(status_ca()))
        print(f"beside {', '.join(peers) or 'nobody'}")
        rounds = measure(site, peers)
        shown = [site.seconds_until_revoked(serial) for serial in site.serials[:REVOCATIONS]]
    rows = [rate(rounds, KEPT, at_least=5000), rate(rounds, FRESH, at_least=2000)]
    if OPENSSL in peers:
        rows += [ratio(rounds, ours, OPENSSL, at_least=2.0) for ours in rounds if ours not in peers]
    if CFSSL in peers:
        rows.append(ratio(rounds, KEPT, CFSSL, at_least=0.5))
    rows.append(Row(name="revoked to visible, slowest of ten", measured=max(shown), unit="s", at_most=1.0))
    return print_table(rows)


if __name__ == "__main__":
    sys.exit(main())
