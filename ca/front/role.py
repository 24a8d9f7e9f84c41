"""The front's process: gunicorn over TLS 1.3. This module builds every adapter of a worker and passes it in.

The process that starts the workers (gunicorn's arbiter) opens no store, channel or key: after a fork, two
processes would share one connection (SQLite forbids that, https://www.sqlite.org/howtocorrupt.html section
2.6).
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import falcon

from ca.certificates.profile import check_profile
from ca.config import Config
from ca.front.app import build_app
from ca.front.dial_back import Dialler
from ca.front.doorkeeper import Doorkeeper
from ca.front.enroller import STAGES, Enroller
from ca.front.feed import RevocationFeed
from ca.front.own_certificate import Authority, OwnCertificate
from ca.front.parts import FrontParts
from ca.front.recent import RecentRows
from ca.home import CAHome
from ca.store.reader import StoreReader
from ostiary.edge.channel import connect
from ostiary.edge.clock import SystemClock
from ostiary.edge.metrics import Metrics
from ostiary.edge.place import Place
from ostiary.edge.users import RoleName
from ostiary.errors import Busy, OstiaryError
from ostiary.front.health import Readiness
from ostiary.front.refusals import RefusalCounter
from ostiary.front.serve import Front, listen_tcp, run_front
from ostiary.front.tls import FrontTLS
from ostiary.front.tls_peer import cut_off
from ostiary.recorder.client import recorder_client
from ostiary.store.database import open_for_reading

_log = logging.getLogger("ostiary.ca.front")


def run(home_path: Path) -> None:
    """Be the front until told to stop."""
    home = CAHome.at(home_path)
    place = home.place()
    config = home.config()
    metrics = Metrics(stages=STAGES, counters=(), processes=config.workers)
    worker = _Worker(home, place, config, metrics)
    run_front(
        Front(
            listeners=[listen_tcp(config.listen.host, config.listen.port)],
            make_app=worker.app,
            tls=worker.tls,
            workers=config.workers,
            threads=config.threads,
            on_worker_start=worker.start,
            on_worker_exit=worker.stop,
        )
    )


class _Worker:
    """The composition root of one worker process; empty in the arbiter, filled by `start` after the fork."""

    def __init__(self, home: CAHome, place: Place, config: Config, metrics: Metrics) -> None:
        self._place = place
        self._config = config
        self._metrics = metrics
        issuing = home.issuing()
        self._authority = Authority(
            profile=check_profile(config.profile(), issuing),
            issuing=issuing,
            root=home.root(),
            node=config.node,
        )
        self._stopped = threading.Event()
        self._refusals = RefusalCounter()
        self._parts: FrontParts | None = None
        self._own: OwnCertificate | None = None

    def start(self, slot: int) -> None:
        """Get ready to serve.

        1. Open store and channel.
        2. Get a certificate, which takes a running recorder and keyholder.
        3. Start the threads that work beside requests: renewal, the feed, counting.
        """
        # 1.
        self._metrics.attach(slot)
        parts = self._build()
        # 2.
        own = OwnCertificate(
            self._authority,
            recording=parts.recording,
            reader=parts.reader,
            clock=parts.clock,
            random=os.urandom,
        )
        own.obtain_first()
        # 3.
        parts.feed.start_at_newest()
        self._parts, self._own = parts, own
        for work in (own.run, parts.feed.run, self._count_refusals):
            threading.Thread(target=work, args=(self._stopped,), daemon=True).start()

    def stop(self) -> None:
        """End the threads and record the counts that were not recorded yet."""
        self._stopped.set()
        if self._parts is not None:
            self._refusals.flush(self._parts.recording.submit)

    def app(self) -> falcon.App[Any, Any]:
        return build_app(self._started())

    def tls(self) -> FrontTLS:
        if self._own is None:
            raise AssertionError("a connection before the worker has started")
        return self._own.tls()

    def _started(self) -> FrontParts:
        if self._parts is None:
            raise AssertionError("an application before the worker has started")
        return self._parts

    def _build(self) -> FrontParts:
        clock = SystemClock()
        reader = StoreReader(open_for_reading(self._place.database_url, connections=self._config.threads))
        recent = RecentRows(reader.certificate, monotonic_ns=clock.monotonic_ns)
        recording = recorder_client(self._place, "front")
        authority = self._authority
        return FrontParts(
            profile=authority.profile,
            issuing=authority.issuing,
            root=authority.root,
            grants=self._config.grants,
            doorkeeper=Doorkeeper(
                recording=recording,
                certificate=reader.certificate,
                recent=recent.certificate,
                refusals=self._refusals,
                clock=clock,
            ),
            reader=reader,
            recent=recent,
            recording=recording,
            enroller=Enroller(
                profile=authority.profile,
                recording=recording,
                reader=reader,
                clock=clock,
                random=os.urandom,
                metrics=self._metrics,
            ),
            # Half the threads may wait for revocations, so that the others can serve.
            feed=RevocationFeed(reader, cut_off=cut_off, max_waiters=max(1, self._config.threads // 2)),
            # A dial keeps a thread for up to 3 s; most of them must stay free.
            prove=Dialler(max_at_once=max(1, self._config.threads // 4)).prove,
            readiness=self._readiness(reader),
            clock=clock,
            metrics=self._metrics,
        )

    def _readiness(self, reader: StoreReader) -> Callable[[], Readiness]:
        channel = self._place.home.channel("front")
        recorder_uids = frozenset({self._place.users.uid(RoleName.RECORDER)})

        # Each check asks the thing itself; none says more than ready or not, because anybody may read it.
        def check() -> Readiness:
            store = recorder = True
            try:
                reader.last_revocation()
            except Busy:
                store = False
            try:
                connect(channel, expected_uids=recorder_uids).close()
            except OstiaryError:
                recorder = False
            certificate = self._own is not None and self._own.is_valid
            return Readiness(
                checks={"store": store, "recorder": recorder, "certificate": certificate},
                roles_separated=self._place.users.separated,
            )

        return check

    def _count_refusals(self, stopped: threading.Event) -> None:
        # Workers record their counts once a minute, each at another second.
        self._refusals.run(self._started().recording.submit, stopped, offset_s=os.getpid() % 10)
