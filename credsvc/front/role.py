"""The front of a credentials service: builds every adapter, once per worker, and serves.

Rules:
- Everything that has a thread or a connection is made after the fork, in the worker.
- Started as its own user by the supervisor; it reads the store, and writes nowhere.
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import falcon

from credsvc.config import Config
from credsvc.front.app import build_app
from credsvc.front.catalog import Catalog
from credsvc.front.doorkeeper import Doorkeeper, Refuser
from credsvc.front.own_certificate import OwnCertificate, claim_from_manager, claim_patiently
from credsvc.front.parts import FrontParts
from credsvc.front.pipeline import Pipeline
from credsvc.front.revocations import WAIT_S, Feed, Page, Revocations
from credsvc.front.stages import STAGES, Ports, Stages
from credsvc.home import CLAIM_VARIABLE, LISTEN_VARIABLE, load_place
from credsvc.sandbox.client.threaded import ThreadedPool
from credsvc.store.tables import LEDGER
from ostiary.address import Address, parse_address
from ostiary.edge.clock import SystemClock
from ostiary.edge.files import read_limited
from ostiary.edge.http_client import HTTPClient, tls_connector
from ostiary.edge.metrics import Metrics
from ostiary.edge.place import Place
from ostiary.errors import Misconfigured
from ostiary.front.ledger_api import add_ledger_routes
from ostiary.front.refusals import RefusalCounter
from ostiary.front.serve import Front, listen_tcp, run_front
from ostiary.front.tls import FrontTLS
from ostiary.front.tls_peer import cut_off
from ostiary.recorder.client import RecorderClient, recorder_client
from ostiary.store.database import open_for_reading

_MAX_PEM_BYTES: Final = 64 * 1024
_DEFAULT_PORT: Final = 443


def run(home_path: Path) -> None:
    """Be the front until the supervisor stops it."""
    config, place = load_place(home_path)
    if missing := [name for name in (CLAIM_VARIABLE, LISTEN_VARIABLE) if name not in os.environ]:
        raise Misconfigured(f"{' and '.join(missing)} is not set: start the front by `ostiary credsvc serve`")
    claim_fd = int(os.environ[CLAIM_VARIABLE])
    listen = parse_address(os.environ[LISTEN_VARIABLE], field="listen")
    metrics = Metrics(stages=STAGES, counters=("denied",), processes=config.front_workers)
    # A manager binds an agent to the process that claims first and to what descends from it: so the parent of
    # all workers claims, before it forks them.
    claim_patiently(claim_from_manager(Path(config.manager_socket), claim_fd))
    worker = _Worker(config=config, place=place, claim_fd=claim_fd, metrics=metrics)
    run_front(
        Front(
            listeners=[listen_tcp(listen.host, listen.port)],
            make_app=worker.make_app,
            tls=worker.tls,
            workers=config.front_workers,
            threads=config.front_threads,
            on_worker_start=worker.start,
            on_worker_exit=worker.stop,
        )
    )


@dataclass(slots=True, kw_only=True)
class _Worker:
    """The composition root of one worker process."""

    config: Config
    place: Place
    claim_fd: int
    metrics: Metrics
    _refusals: RefusalCounter = field(default_factory=RefusalCounter)
    _own: OwnCertificate | None = None
    _recorder: RecorderClient | None = None
    _stopping: threading.Event | None = None
    _parts: FrontParts | None = None

    def tls(self) -> FrontTLS:
        """For the next connection; gunicorn asks in a worker that has started."""
        if self._own is None:
            raise AssertionError("the worker has not started")
        return self._own.tls()

    def start(self, slot: int) -> None:
        """Claim the certificate, connect, start the threads."""
        self.metrics.attach(slot)
        root = read_limited(self.place.home.public / "root.pem", limit_bytes=_MAX_PEM_BYTES)
        claim = claim_from_manager(Path(self.config.manager_socket), self.claim_fd)
        own = self._own = OwnCertificate(claim, root=root)
        stopping = self._stopping = threading.Event()
        recorder = self._recorder = recorder_client(self.place, "front")
        revocations = Revocations(monotonic_s=time.monotonic, cut_off=cut_off)
        self._parts = self._assemble(recorder, revocations)
        feed = revocation_feed(self.config, own)
        for name, target, arguments in (
            ("revocations", revocations.follow, (feed, stopping)),
            ("certificate", own.keep_fresh, (stopping,)),
            ("refusals", self._count_refusals, (recorder, stopping)),
        ):
            threading.Thread(target=target, args=arguments, name=name, daemon=True).start()

    def _count_refusals(self, recorder: RecorderClient, stopping: threading.Event) -> None:
        self._refusals.run(recorder.submit, stopping, offset_s=os.getpid() % 10)

    def _assemble(self, recorder: RecorderClient, revocations: Revocations) -> FrontParts:
        clock = SystemClock()
        refuser = Refuser(recorder, clock)
        engine = open_for_reading(self.place.database_url)
        catalog = Catalog(engine, monotonic_s=time.monotonic)
        sandbox = ThreadedPool(
            self.place.home.channel("sandbox"),
            max_workers=max(1, self.config.sandbox_workers // self.config.front_workers),
        )
        stages = Stages(
            Ports(
                catalog=catalog,
                sandbox=sandbox,
                recorder=recorder,
                refuser=refuser,
                clock=clock,
                random=os.urandom,
                metrics=self.metrics,
            )
        )
        doorkeeper = Doorkeeper(
            application=self.config.application,
            revocations=revocations,
            refuser=refuser,
            refusals=self._refusals,
            clock=clock,
        )
        return FrontParts(
            doorkeeper=doorkeeper,
            refuser=refuser,
            catalog=catalog,
            pipeline=Pipeline(stages),
            revocations=revocations,
            metrics=self.metrics,
            origin=self.config.origin,
            separated=self.place.users.separated,
            mount_ledger=lambda app, admit: add_ledger_routes(
                app, "/v1/ledger", engine=engine, tables=LEDGER, admit=admit
            ),
        )

    def make_app(self) -> falcon.App[Any, Any]:
        """The application; gunicorn asks for it after `start`."""
        if self._parts is None:
            raise AssertionError("the worker has not started")
        return build_app(self._parts)

    def stop(self) -> None:
        """End the threads, record what was counted, and end the connection to the recorder."""
        if self._stopping is not None:
            self._stopping.set()
        if self._recorder is not None:
            self._refusals.flush(self._recorder.submit)
            self._recorder.close()


def revocation_feed(config: Config, own: OwnCertificate) -> Feed:
    """The CA's feed over TLS, with this service's certificate on both ends' word."""
    url = urlsplit(config.ca_url)
    if url.scheme != "https" or not url.hostname:
        raise Misconfigured(f"ca_url '{config.ca_url}': wanted https://HOST:PORT")
    address = Address(host=url.hostname, port=url.port or _DEFAULT_PORT)
    if config.ca_address:
        address = parse_address(config.ca_address, field="ca_address")
    connect = tls_connector(
        (address.host, address.port),
        server_name=url.hostname,
        context=own.client_context,
        timeout_s=2.0 * WAIT_S,
    )
    client = HTTPClient(connect, host=url.hostname)

    def ask(*, since: int, wait_s: int) -> Page:
        return client.call("GET", f"/v1/revocations?since={since}&wait={wait_s}", type_=Page)

    return ask
