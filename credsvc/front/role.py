"""The front of a credentials service: builds every adapter, once per worker, and serves.

Rules:
- Everything that has a thread or a connection is made after the fork, on the worker's event loop.
- What blocks has threads: `front_threads` for the store, one for the CA's feed, whose long poll takes it for
  good, and one for claims: neither ever takes a reader's place.
- Started as its own user by the supervisor; it reads the store, and writes nowhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from credsvc.config import Config
from credsvc.front.app import build_app
from credsvc.front.batch import Batches
from credsvc.front.catalog import Catalog
from credsvc.front.doorkeeper import Doorkeeper, Refuser
from credsvc.front.own_certificate import OwnCertificate, claim_from_manager, claim_patiently
from credsvc.front.parts import FrontParts
from credsvc.front.pipeline import Pipeline
from credsvc.front.revocations import WAIT_S, Page, Revocations
from credsvc.front.stages import STAGES, Ports, Stages
from credsvc.home import CLAIM_VARIABLE, LISTEN_VARIABLE, load_place
from credsvc.sandbox.client.pool import SandboxPool
from credsvc.store.tables import LEDGER
from ostiary.address import Address, parse_address
from ostiary.edge.clock import SystemClock
from ostiary.edge.files import read_limited
from ostiary.edge.http_client import HTTPClient, tls_connector
from ostiary.edge.metrics import Metrics
from ostiary.edge.place import Place
from ostiary.errors import Misconfigured
from ostiary.front.ledger_api import add_ledger_routes
from ostiary.front.offload import Offload
from ostiary.front.peer import cut_off
from ostiary.front.refusals import RefusalCounter
from ostiary.front.serve import listen_tcp, run_front
from ostiary.front.worker import Front, Served
from ostiary.recorder.client import AsyncRecorderClient, async_recorder_client
from ostiary.store.database import open_for_reading

_MAX_PEM_BYTES: Final = 64 * 1024
_DEFAULT_PORT: Final = 443
_LEAVE_S: Final = 1.0


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
            start=worker.start,
            workers=config.front_workers,
        )
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Worker:
    """The composition root of one worker process."""

    config: Config
    place: Place
    claim_fd: int
    metrics: Metrics

    async def start(self, slot: int) -> Served:
        """Claim the certificate, connect, put the application together."""
        self.metrics.attach(slot)
        root = read_limited(self.place.home.public / "root.pem", limit_bytes=_MAX_PEM_BYTES)
        claiming = Offload(threads=1)
        claim = claim_from_manager(Path(self.config.manager_socket), self.claim_fd)
        own = OwnCertificate(claim, root=root, offload=claiming)
        await own.begin()
        recorder = async_recorder_client(self.place, "front")
        refusals = RefusalCounter()
        revocations = Revocations(monotonic_s=time.monotonic, cut_off=cut_off)
        feed = RevocationFeed(self.config, own)
        offload = Offload(threads=self.config.front_threads)
        sandbox = SandboxPool(
            self.place.home.channel("sandbox"),
            max_workers=max(1, self.config.sandbox_workers // self.config.front_workers),
        )

        async def close() -> None:
            await refusals.flush(recorder.submit)
            recorder.close()
            await sandbox.close()
            offload.close()
            claiming.close()
            await feed.close()

        return Served(
            app=build_app(self._assemble(recorder, sandbox, offload, revocations, refusals)),
            tls=own.tls,
            tasks={
                "revocations": lambda: revocations.follow(feed.ask),
                "certificate": own.keep_fresh,
                "refusals": lambda: refusals.run(recorder.submit, offset_s=os.getpid() % 10),
            },
            close=close,
        )

    def _assemble(
        self,
        recorder: AsyncRecorderClient,
        sandbox: SandboxPool,
        offload: Offload,
        revocations: Revocations,
        refusals: RefusalCounter,
    ) -> FrontParts:
        clock = SystemClock()
        refuser = Refuser(recorder, clock)
        engine = open_for_reading(self.place.database_url)
        catalog = Catalog(engine, offload=offload, monotonic_s=time.monotonic)
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
            refusals=refusals,
            clock=clock,
        )
        return FrontParts(
            doorkeeper=doorkeeper,
            refuser=refuser,
            catalog=catalog,
            pipeline=Pipeline(stages),
            batches=Batches(stages, monotonic_s=time.monotonic),
            revocations=revocations,
            metrics=self.metrics,
            origin=self.config.origin,
            separated=self.place.users.separated,
            mount_ledger=lambda app, admit: add_ledger_routes(
                app, "/v1/ledger", engine=engine, tables=LEDGER, admit=admit, offload=offload
            ),
        )


class RevocationFeed:
    """The CA's feed over TLS, with this service's certificate; polls wait on a thread of their own."""

    def __init__(self, config: Config, own: OwnCertificate) -> None:
        """Misconfigured, or BadInput, names the setting that is none."""
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
        self._client = HTTPClient(connect, host=url.hostname)
        self._offload = Offload(threads=1)

    async def ask(self, *, since: int, wait_s: int) -> Page:
        """Poll once."""
        path = f"/v1/revocations?since={since}&wait={wait_s}"
        return await self._offload.run(self._client.call, "GET", path, type_=Page)

    async def close(self) -> None:
        """End the poll that waits, as a process ends only after its threads; and the connection."""
        self._client.abort()
        # On the poll's own thread, after it; not for as long as it may take to connect to a CA that is away.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LEAVE_S):
                await self._offload.run(self._client.close)
        self._offload.close()
