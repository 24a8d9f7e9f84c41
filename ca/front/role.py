"""The front's process: gunicorn over TLS. This module builds every adapter of a worker and passes it in.

The process that starts the workers (gunicorn's arbiter) opens no store, channel or key: after a fork, two
processes would share one connection (SQLite forbids that, https://www.sqlite.org/howtocorrupt.html section
2.6).
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Final

from ca.certificates.profile import check_profile
from ca.config import Config
from ca.front.app import build_app
from ca.front.dial_back import Dialler
from ca.front.doorkeeper import Doorkeeper
from ca.front.enroller import STAGES, Enroller
from ca.front.feed import RevocationFeed
from ca.front.own_certificate import Authority, OwnCertificate
from ca.front.parts import FrontParts
from ca.front.readiness import ReadinessChecks
from ca.front.recent import RecentRows
from ca.front.staple import Stapler
from ca.front.store_reads import StoreReads
from ca.home import CAHome
from ca.store.reader import StoreReader
from ostiary.edge.async_channel import AsyncClient
from ostiary.edge.channel import connect
from ostiary.edge.clock import SystemClock
from ostiary.edge.metrics import Metrics
from ostiary.edge.place import Place
from ostiary.edge.users import RoleName
from ostiary.front.health import Readiness
from ostiary.front.offload import Offload
from ostiary.front.peer import cut_off
from ostiary.front.refusals import RefusalCounter
from ostiary.front.serve import listen_tcp, run_front
from ostiary.front.worker import Front, Limits, Served, room_limits
from ostiary.recorder.client import async_recorder_client
from ostiary.store.database import open_for_reading

# The responder signs in 0.1 ms, one request after the other.
ASK_S: Final = 1.0
# A dial costs a descriptor for 3 s at most.
_DIALS: Final = 64


def run(home_path: Path) -> None:
    """Be the front until told to stop."""
    home = CAHome.at(home_path)
    place = home.place()
    config = home.config()
    metrics = Metrics(stages=STAGES, counters=(), processes=config.workers)
    issuing = home.issuing()
    authority = Authority(
        profile=check_profile(config.profile(), issuing),
        issuing=issuing,
        root=home.root(),
        node=config.node,
    )
    limits = Limits()

    async def start(slot: int) -> Served:
        metrics.attach(slot)
        return await _Worker(place, config, metrics, authority, limits).start()

    run_front(
        Front(
            listeners=[listen_tcp(config.listen.host, config.listen.port)],
            start=start,
            workers=config.workers,
            limits=limits,
        )
    )


class _Worker:
    """The composition root of one worker; made on its loop, after the fork."""

    def __init__(
        self, place: Place, config: Config, metrics: Metrics, authority: Authority, limits: Limits
    ) -> None:
        self._place = place
        self._config = config
        self._metrics = metrics
        self._authority = authority
        self._limits = limits
        self._clock = SystemClock()
        # Beside the pool of those who ask, a thread of its own for what this worker must hear in time.
        self._engine = open_for_reading(place.database_url, connections=config.threads + 1)
        self._offload, self._watching = Offload(threads=config.threads), Offload(threads=1)
        self._reads = StoreReads(StoreReader(self._engine), self._offload)
        self._recording = async_recorder_client(place, "front")
        self._responder = AsyncClient(
            place.home.channel("staple"), expected_uids=frozenset({place.users.uid(RoleName.RESPONDER)})
        )
        self._stapler = Stapler(self._ask_responder, issuing=authority.issuing, clock=self._clock)
        self._own = OwnCertificate(
            authority,
            recording=self._recording,
            reads=self._reads,
            staple=self._stapler.begin,
            clock=self._clock,
            random=os.urandom,
        )
        self._refusals = RefusalCounter()

    async def start(self) -> Served:
        """Get ready to serve.

        1. Get a certificate, which takes a running recorder and keyholder.
        2. Take what was revoked so far as known.
        3. Say what works beside requests: renewal, stapling, the feed, counting.
        """
        # 1.
        await self._own.obtain_first()
        # 2.
        parts = self._parts()
        await parts.feed.start_at_newest()
        # 3. Workers record their counts once a minute, each at another second.
        count = partial(self._refusals.run, self._recording.submit, offset_s=os.getpid() % 10)
        return Served(
            app=build_app(parts),
            tls=self._own.tls,
            tasks={
                "own-certificate": self._own.run,
                "staple": self._stapler.run,
                "feed": parts.feed.run,
                "refusals": count,
            },
            close=self._close,
        )

    async def _close(self) -> None:
        """Record the counts that were not recorded yet, and end what was opened."""
        await self._refusals.flush(self._recording.submit)
        self._recording.close()
        self._responder.close()
        self._offload.close()
        self._watching.close()
        self._engine.dispose()

    async def _ask_responder(self, request_der: bytes) -> bytes:
        return (await self._responder.call(request_der, timeout_s=ASK_S)).body

    def _parts(self) -> FrontParts:
        authority, reads, clock = self._authority, self._reads, self._clock
        recent = RecentRows(reads.certificate, monotonic_ns=clock.monotonic_ns)
        # A quarter of the connections stays for those who do not wait for revocations.
        max_waiters = max(1, room_limits(self._limits).connections * 3 // 4)
        return FrontParts(
            profile=authority.profile,
            issuing=authority.issuing,
            root=authority.root,
            grants=self._config.grants,
            doorkeeper=Doorkeeper(
                recording=self._recording,
                certificate=reads.certificate,
                recent=recent.certificate,
                refusals=self._refusals,
                clock=clock,
            ),
            reads=reads,
            recent=recent,
            recording=self._recording,
            enroller=Enroller(
                profile=authority.profile,
                recording=self._recording,
                reads=reads,
                clock=clock,
                random=os.urandom,
                metrics=self._metrics,
            ),
            feed=RevocationFeed(
                reads,
                watching=StoreReads(StoreReader(self._engine), self._watching),
                cut_off=cut_off,
                max_waiters=max_waiters,
            ),
            prove=Dialler(max_at_once=_DIALS).prove,
            readiness=self._readiness(),
            clock=clock,
            metrics=self._metrics,
            engine=self._engine,
            offload=self._offload,
        )

    def _readiness(self) -> Callable[[], Awaitable[Readiness]]:
        channel = self._place.home.channel("front")
        recorder_uids = frozenset({self._place.users.uid(RoleName.RECORDER)})

        async def store() -> bool:
            await self._reads.last_revocation()
            return True

        async def recorder() -> bool:
            # Without blocking, and a connection of its own: the one that submits may not have noticed yet.
            connect(channel, expected_uids=recorder_uids).close()
            return True

        async def certificate() -> bool:
            return self._own.is_valid

        return ReadinessChecks(
            {"store": store, "recorder": recorder, "certificate": certificate},
            roles_separated=self._place.users.separated,
            monotonic_ns=self._clock.monotonic_ns,
        )
