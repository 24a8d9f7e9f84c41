"""The end of every enrollment: prepare, have it recorded and signed, put the certificate together.

Rules:
- A shard may close between preparing and recording. Then, and only then, the certificate is prepared once
  more.
- Nothing leaves before it is in the ledger: the signature comes only with the record.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from ca.certificates.accept import AcceptedCSR, CSRBytes, accept
from ca.certificates.profile import Profile
from ca.front.enrollment import RANDOM_BYTES, Wanted, certificate_of, prepare
from ca.front.store_reads import StoreReads
from ca.items import Prepared
from ostiary.edge.clock import Clock
from ostiary.edge.metrics import Metrics
from ostiary.errors import Forbidden
from ostiary.recorder.client import AsyncRecorderPort
from ostiary.work.answer import Recorded
from ostiary.work.item import Item

STAGES: Final = ("accept", "prepare", "recorder")
_PLAN_AGAIN: Final = frozenset(("certificate-shard", "certificate-serial-taken"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Enroller:
    """The adapters of an enrollment; one per worker, for its loop."""

    profile: Profile
    recording: AsyncRecorderPort
    reads: StoreReads
    clock: Clock
    random: Callable[[int], bytes]
    metrics: Metrics

    def accept(self, body: bytes) -> AcceptedCSR:
        """Check the bytes of a certification request; BadInput names what is wrong."""
        with self.metrics.stage("accept"):
            return accept(CSRBytes(body))

    async def enroll(
        self, wanted: Wanted, accepted: AcceptedCSR, item_of: Callable[[Prepared], Item]
    ) -> bytes:
        """Have a certificate (DER) made; raises what `prepare` and the recorder raise."""
        try:
            prepared, recorded = await self._attempt(wanted, accepted, item_of)
        except Forbidden as exc:
            if exc.rule not in _PLAN_AGAIN:
                raise
            # Once: a second refusal for the same reason is no race but a fault, and its record says which.
            self.reads.forget_shard()
            prepared, recorded = await self._attempt(wanted, accepted, item_of)
        return certificate_of(self.profile, prepared, recorded)

    async def _attempt(
        self, wanted: Wanted, accepted: AcceptedCSR, item_of: Callable[[Prepared], Item]
    ) -> tuple[Prepared, Recorded]:
        now = self.clock.now()
        shard = await self.reads.shard_for_new(now)
        # On the loop, as `accept`: each takes 0.1 to 0.2 ms, and a thread would hold the interpreter as long.
        with self.metrics.stage("prepare"):
            prepared = prepare(
                self.profile,
                wanted,
                accepted,
                shard=shard,
                now=now,
                random_bytes=self.random(RANDOM_BYTES),
            )
            item = item_of(prepared)
        with self.metrics.stage("recorder"):
            return prepared, await self.recording.submit(item)
