"""Who gets in: the peer of a request, its certificate's standing, its pace, and the record of refusals.

Rules:
- A refusal of somebody with an identity is recorded before it is answered (`Refuse`); if the record fails,
  the answer is Busy.
- Every request counts against its source address, whatever it asks for (`SourcePace`).
- A refusal of somebody without an identity is counted (ostiary/front/refusals.py) and costs its source
  address a drop of a small bucket. When that is empty, nobody enrolls by token from there for a while. It
  does not slow down those who show a certificate.
- The recorder itself records what it refuses.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

import falcon.asgi

from ca.front.peer import ASKERS, Caller, Standing, error_for, standing_of
from ca.items import Activate
from ca.store.rows import CertificateRow
from ostiary.capabilities import Capability
from ostiary.edge.clock import Clock
from ostiary.errors import Forbidden, OstiaryError, Unauthenticated
from ostiary.front.http import check_pace
from ostiary.front.limits import Buckets, Limit
from ostiary.front.peer import peer_source, peer_value
from ostiary.front.refusals import RefusalCounter
from ostiary.peer import PeerCertificate, peer_item, read_peer
from ostiary.recorder.client import AsyncRecorderPort
from ostiary.work.reports import Refuse

_MAX_TARGET: Final = 64

RowOf: TypeAlias = Callable[[str], Awaitable[CertificateRow | None]]
"""The row of a certificate by its serial number (hex)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DoorLimits:
    """How often; per worker, so a service of two workers lets twice as much pass."""

    # Of one source address or one certificate, whatever it asks for: ten times what a busy manager needs.
    source: Limit
    caller: Limit
    # Wrong secrets, unknown tokens, missing certificates; per source address.
    stranger: Limit
    # Refusals of one certificate, and of the known tokens (spent, of another node) of a source address: each
    # is an entry in the ledger.
    refused: Limit
    refused_tokens: Limit


LIMITS: Final = DoorLimits(
    source=Limit(rate_per_s=4000, burst=8000),
    caller=Limit(rate_per_s=2000, burst=4000),
    stranger=Limit(rate_per_s=2, burst=60),
    refused=Limit(rate_per_s=1, burst=60),
    refused_tokens=Limit(rate_per_s=1, burst=4000),
)


class Doorkeeper:
    """Identifies callers, paces requests and records refusals; one per worker, for its loop."""

    def __init__(
        self,
        *,
        recording: AsyncRecorderPort,
        certificate: RowOf,
        recent: RowOf,
        refusals: RefusalCounter,
        clock: Clock,
        limits: DoorLimits = LIMITS,
    ) -> None:
        self._recording = recording
        self._certificate = certificate
        self._recent = recent
        self._refusals = refusals
        self._clock = clock
        self._sources = Buckets(limits.source)
        self._callers = Buckets(limits.caller)
        self._strangers = Buckets(limits.stranger)
        self._refused = Buckets(limits.refused)
        self._refused_tokens = Buckets(limits.refused_tokens)

    def check_source_pace(self) -> None:
        """Count the request against its source address; 429 when there were too many."""
        check_pace(self._sources.take(peer_source(), now_ns=self._clock.monotonic_ns()))

    def check_stranger_pace(self) -> str:
        """Let in a request of somebody without an identity and return its source address; 429 when that was
        refused too often.
        """
        # `wait_s` looks without taking: only a refusal costs, so that a busy source of good tokens never
        # waits.
        source = peer_source()
        for bucket in (self._strangers, self._refused_tokens):
            check_pace(bucket.wait_s(source, now_ns=self._clock.monotonic_ns()))
        return source

    def count_stranger(self, source: str, reason: str) -> None:
        """Count the refusal of somebody without an identity; the caller raises."""
        self._strangers.take(source, now_ns=self._clock.monotonic_ns())
        self._refusals.add(source, reason)

    def count_refused_token(self, source: str) -> None:
        """Count the refusal of a known token, which the recorder has recorded; the caller raises."""
        self._refused_tokens.take(source, now_ns=self._clock.monotonic_ns())

    async def identify(self, *, act: str, standings: frozenset[Standing] = ASKERS) -> Caller:
        """Let in the holder of a client certificate whose standing is one of `standings`; record a refusal.

        1. There is a certificate, and its names are an agent's.
        2. The certificate is not used too often.
        3. Its standing, by its row and the time, is one of `standings`.
        4. A renewed one becomes active by this use.
        Raises Unauthenticated, Forbidden(rule=certificate-...), Busy.
        """
        return await self._identify(act, standings, self._certificate)

    async def identify_for_recorder(self, *, act: str) -> Caller:
        """`identify` by a row that may be a moment old (ca/front/recent.py), for an act that the recorder
        decides by the row itself.
        """
        return await self._identify(act, ASKERS, self._recent)

    async def _identify(self, act: str, standings: frozenset[Standing], row_of: RowOf) -> Caller:
        # 1. TLS has verified chain and key at the handshake; None where the peer showed no certificate.
        certificate = peer_value(read_peer)
        if certificate is None or certificate.identity is None:
            self.count_stranger(
                peer_source(), "certificate-missing" if certificate is None else "certificate-names"
            )
            wanted = "missing" if certificate is None else "its names are not those of an agent"
            raise Unauthenticated(f"client certificate: {wanted}", field="certificate")
        # 2.
        check_pace(self._callers.take(certificate.serial, now_ns=self._clock.monotonic_ns()))
        # 3. On every request: a connection outlives its certificate's revocation and expiry.
        row = await row_of(certificate.serial)
        standing = standing_of(row, certificate, self._clock.now())
        if row is None or standing not in standings:
            raise await self._record_standing(certificate, act, error_for(standing), standing)
        # 4.
        caller = Caller(
            serial=certificate.serial, der=certificate.der, identity=certificate.identity, row=row
        )
        return await self._used(caller) if standing is Standing.RENEWED else caller

    async def _used(self, caller: Caller) -> Caller:
        """Make a renewed certificate active by its first use."""
        # Recorded before the caller may act, so that a clone can't act unseen. Of two first requests at once
        # the recorder refuses the second ("certificate-not-pending").
        await self._recording.submit(Activate(serial=caller.serial, means="used"))
        return replace(caller, row=await self._certificate(caller.serial) or caller.row)

    async def require(self, caller: Caller, capability: Capability, *, act: str, target: str) -> None:
        """Check that a caller's certificate carries a capability; Forbidden, recorded."""
        if not caller.may(capability):
            reason = f"the certificate of {caller.identity.subsystem} does not carry '{capability}'"
            raise await self.record_refusal(
                caller, act=act, target=target, rule=f"capability-{capability}", reason=reason
            )

    async def record_refusal(
        self, caller: Caller, *, act: str, target: str, rule: str, reason: str
    ) -> OstiaryError:
        """Record the refusal of a caller, and return the error to raise."""
        await self._record(
            caller.serial,
            Refuse(by=caller.peer, act=act, target=target[:_MAX_TARGET], rule=rule, reason=reason),
        )
        return Forbidden(reason, rule=rule)

    async def _record_standing(
        self, certificate: PeerCertificate, act: str, error: OstiaryError, standing: Standing
    ) -> OstiaryError:
        if certificate.identity is None:
            raise AssertionError("a certificate without an identity has no refusal to record")
        identity = certificate.identity
        peer = peer_item(certificate.serial, identity)
        rule = f"certificate-{standing.value}"
        await self._record(
            certificate.serial,
            Refuse(by=peer, act=act, target=certificate.serial, rule=rule, reason=error.message),
        )
        return error

    async def _record(self, serial: str, item: Refuse) -> None:
        # Each is an entry for good: a caller that is always refused may not fill the ledger.
        check_pace(self._refused.take(serial, now_ns=self._clock.monotonic_ns()))
        try:
            await self._recording.submit(item)
        except Forbidden as exc:
            # A `Refuse` is recorded as the denial that it reports, and so is its answer: that is success
            # here.
            if exc.rule != item.rule:
                raise


class SourcePace:
    """The middleware that paces every request by its source, also one for a path that does not exist."""

    def __init__(self, doorkeeper: Doorkeeper) -> None:
        self._doorkeeper = doorkeeper

    async def process_request(self, _req: falcon.asgi.Request, _resp: falcon.asgi.Response) -> None:
        self._doorkeeper.check_source_pace()
