"""The status front's process: gunicorn over plain HTTP for OCSP, CRLs and the certificates above a leaf. It
holds no key.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import falcon

from ca.home import CAHome
from ca.status.app import COUNTERS, STAGES, StatusParts, build_app
from ca.store.reader import StoreReader
from ostiary.edge.channel import Answer, Client
from ostiary.edge.clock import SystemClock
from ostiary.edge.files import read_limited
from ostiary.edge.metrics import Metrics
from ostiary.edge.place import Place
from ostiary.edge.users import RoleName
from ostiary.front.limits import Buckets, Limit
from ostiary.front.serve import Front, listen_tcp, run_front
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

    def make_app() -> falcon.App[Any, Any]:
        """Called in each worker, after the fork."""
        return build_app(_parts(home, place, metrics, threads=config.threads))

    run_front(
        Front(
            listeners=[listen_tcp(config.status_listen.host, config.status_listen.port)],
            make_app=make_app,
            tls=None,
            workers=config.workers,
            threads=config.threads,
            on_worker_start=metrics.attach,
        )
    )


def _parts(home: CAHome, place: Place, metrics: Metrics, *, threads: int) -> StatusParts:
    responder = Client(
        place.home.channel("ocsp"), expected_uids=frozenset({place.users.uid(RoleName.RESPONDER)})
    )

    def ask(request_der: bytes) -> Answer:
        return responder.call(request_der, timeout_s=ASK_S)

    return StatusParts(
        reader=StoreReader(open_for_reading(place.database_url, connections=threads)),
        ask=ask,
        issuing=home.issuing(),
        root=home.root(),
        root_crl_der=read_limited(home.root_crl_file, limit_bytes=_CRL_BYTES),
        buckets=Buckets(_SOURCE),
        clock=SystemClock(),
        metrics=metrics,
    )
