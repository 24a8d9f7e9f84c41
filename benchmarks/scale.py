"""`make scale`: fills a CA's store with COUNT certificates (10^5), and shows at each tenth what work takes.

    make scale COUNT=1000000        # through the recorder's own code: a quarter of an hour
    make scale FILL=service         # all of them as managers ask for them

A store is filled by the `service` (up to 10^5, unless FILL says otherwise), or by the `recorder`: its own and
the keyholder's code in one process, with the service stopped (benchmarks/filling.py).

A number is flat where its mean over the last three tenths is within FLAT of that over the first three.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Final

from cryptography import x509

from benchmarks.filling import Filler
from benchmarks.issuing import Issuing
from benchmarks.load import Measured
from benchmarks.table import Row, print_table
from ostiary.certificate import parse_serial_hex
from ostiary.edge.home import ServiceHome
from tests.support.ca_service import RunningCA, running_ca
from tests.support.patient_client import PatientAdminClient

COUNT: Final = int(os.environ.get("COUNT") or "100000")
FILL: Final = os.environ.get("FILL") or ("service" if COUNT <= 100_000 else "recorder")
FLAT: Final = 1.3
TENTHS: Final = 10
MANAGERS, FILLERS, CLIENTS = 8, 32, 8
PROBE_S = 4.0
REPEATS = 51
_LONG_S: Final = 3600.0


@dataclass(frozen=True, kw_only=True)
class Tenth:
    """What a store of this size takes; `bytes` are the store's for each certificate, with its entry. All but
    `rate` is better where it is less.
    """

    rate: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    list_ms: float
    show_ms: float
    revoke_ms: float
    crl_ms: float
    visible_s: float
    start_s: float
    bytes: float


NOT_JUDGED: Final = {"visible_s"}
"""A list is published at most once a second, so what one revocation takes says little."""


class Scaled:
    """A CA whose store grows."""

    def __init__(self, ca: RunningCA) -> None:
        self._ca = ca
        self._issuing = Issuing(ca, managers=MANAGERS)
        self._admin = PatientAdminClient(ServiceHome(ca.home / "ca").operator_socket, service="ca")
        self.made = 0

    def fill(self, count: int) -> float:
        """Make so many certificates; how many in a second."""
        if FILL == "service":
            done = self._issuing.load(clients=FILLERS, managers=MANAGERS, count=count, seconds=_LONG_S)
            self.made += done.count
            return done.rate_per_s
        self._ca.stop()
        filler = Filler(self._ca.home / "ca", self._issuing.nodes[0])
        rate = filler.fill(count)
        filler.close()
        self._ca.start()
        self.made += count
        return rate

    def measure(self) -> Tenth:
        """What everything takes now."""
        done = self._probe()
        newest = self._admin.call(
            "certificate.list", subsystem="component-harness", status="active", limit=100
        )
        serials = [row["serial_number"] for row in newest]
        revoked = iter(serials)
        listing_ms = self._median_ms(lambda: self._admin.call("certificate.list", limit=100))
        show_ms = self._median_ms(lambda: self._admin.call("certificate.show", serial=serials[-1]))
        revoke_ms = self._median_ms(lambda: self._admin.call("certificate.revoke", serial=next(revoked)))
        shard = self._admin.call("certificate.show", serial=serials[-1])["shard"]
        crl_ms = self._median_ms(lambda: self._ca.status(f"/crl/{shard}.crl"))
        visible_s = self._seconds_until_listed(serials[-1], shard)
        start_s = self._start()
        return Tenth(
            rate=done.rate_per_s,
            p50_ms=done.percentile_ms(50),
            p99_ms=done.percentile_ms(99),
            cpu_us=done.cpu_us(),
            list_ms=listing_ms,
            show_ms=show_ms,
            revoke_ms=revoke_ms,
            crl_ms=crl_ms,
            visible_s=visible_s,
            start_s=start_s,
            bytes=(self._ca.home / "ca" / "store" / "store.sqlite").stat().st_size / self.made,
        )

    def _probe(self) -> Measured:
        done = self._issuing.load(clients=CLIENTS, seconds=PROBE_S)
        self.made += done.count
        return done

    def _median_ms(self, act: Callable[[], Any]) -> float:
        durations = []
        for _ in range(REPEATS):
            began = time.perf_counter()
            act()
            durations.append(time.perf_counter() - began)
        return statistics.median(durations) * 1e3

    def _seconds_until_listed(self, serial: str, shard: int) -> float:
        number = parse_serial_hex(serial)
        time.sleep(1.1)  # the shard's last list is not of this second
        self._admin.call("certificate.revoke", serial=serial)
        began = time.perf_counter()
        while True:
            der = self._ca.status(f"/crl/{shard}.crl").body
            if x509.load_der_x509_crl(der).get_revoked_certificate_by_serial_number(number) is not None:
                return time.perf_counter() - began
            time.sleep(0.01)

    def _start(self) -> float:
        """Stop the service, and start it until it is ready."""
        self._ca.stop()
        began = time.perf_counter()
        self._ca.start()
        return time.perf_counter() - began


def main() -> int:
    """Print a line for each tenth, and what is not flat; 1 where something is far from it."""
    names = [each.name for each in fields(Tenth)]
    print(
        f"{COUNT:,} certificates, filled by the {FILL}; {CLIENTS} clients ask at each tenth for {PROBE_S} s"
    )
    print("".join(f"{name:>11}" for name in ("made", "fill", *names)))
    tenths = []
    with running_ca() as ca:
        scaled = Scaled(ca)
        scaled.fill(CLIENTS * 100)
        for number in range(1, TENTHS + 1):
            # Less what was made while measuring.
            filled = scaled.fill(max(1, COUNT * number // TENTHS - scaled.made))
            tenths.append(scaled.measure())
            values = [scaled.made, filled, *(getattr(tenths[-1], name) for name in names)]
            print("".join(f"{value:>11,.{0 if value >= 100 else 2}f}" for value in values), flush=True)
    return print_table([_row(name, tenths) for name in names if name not in NOT_JUDGED])


def _row(name: str, tenths: list[Tenth]) -> Row:
    first, last = (
        statistics.mean(getattr(tenth, name) for tenth in part) for part in (tenths[:3], tenths[-3:])
    )
    worse = first / last if name == "rate" else last / first
    return Row(name=f"{name}, last three tenths / first three", measured=worse, unit="", at_most=FLAT)


if __name__ == "__main__":
    sys.exit(main())
