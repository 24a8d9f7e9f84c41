"""The status front's process: OCSP, CRLs and CA certificates over plain HTTP. It holds no key."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from ca.home import CAHome
from ca.status.app import COUNTERS, STAGES, StatusParts, build_app
from ca.status.lists import Lists
from ca.store.reader import StoreReader
from ostiary.edge.async_channel import AsyncClient
from ostiary.edge.channel import Answer
from ostiary.edge.clock import SystemClock
from ostiary.edge.files import read_limited
from ostiary.edge.metrics import Metrics
from ostiary.edge.place import Place
from ostiary.edge.users import RoleName
from ostiary.front.limits import Buckets, Limit
from ostiary.front.offload import Offload
from ostiary.front.serve import listen_tcp, run_front
from ostiary.front.worker import Front, Served
from ostiary.store.database import open_for_reading

# The responder signs in 0.1 ms; after a second a client is better told to try later.
ASK_S: Final = 1.0
_SOURCE: Final = Limit(rate_per_s=10_000, burst=20_000)
_CRL_BYTES: Final = 64 * 1024


def run(home_path: Path) -> None:
    """Be the status front until told to stop."""
    home = CAHome.at(home_path)
    place = home.place()
    config = home.config()
    metrics = Metrics(stages=STAGES, counters=COUNTERS, processes=config.workers)

    async def start(slot: int) -> Served:
        metrics.attach(slot)
        return _serve(home, place, metrics, threads=config.threads)

    run_front(
        Front(
            listeners=[listen_tcp(config.status_listen.host, config.status_listen.port)],
            start=start,
            workers=config.workers,
        )
    )


def _serve(home: CAHome, place: Place, metrics: Metrics, *, threads: int) -> Served:
    """What one worker serves."""
    responder = AsyncClient(
        place.home.channel("ocsp"), expected_uids=frozenset({place.users.uid(RoleName.RESPONDER)})
    )
    offload = Offload(threads=threads)
    reader = StoreReader(open_for_reading(place.database_url, connections=threads))
    clock = SystemClock()
    root_crl_der = read_limited(home.root_crl_file, limit_bytes=_CRL_BYTES)

    async def ask(request_der: bytes) -> Answer:
        return await responder.call(request_der, timeout_s=ASK_S)

    async def last_revocation() -> int:
        return await offload.run(reader.last_revocation)

    async def close() -> None:
        responder.close()
        offload.close()

    parts = StatusParts(
        lists=Lists(reader, offload, clock, root_crl_der=root_crl_der),
        ask=ask,
        last_revocation=last_revocation,
        issuing=home.issuing(),
        root=home.root(),
        root_crl_der=root_crl_der,
        buckets=Buckets(_SOURCE),
        clock=clock,
        metrics=metrics,
    )
    return Served(app=build_app(parts), tls=None, close=close)
