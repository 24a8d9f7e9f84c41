"""The only way to a secret: evaluate what was recorded, nothing else.

Plan of a batch:
1. Append the leaves to the frontier; sign the tree.
2. For each work item, build the entry that its record must be, hash it, and find it at its place among the
   leaves.
3. Hand the item to the service's evaluator; its refusals are results, and alarms for whoever reads them.

Rules: one thread, no network, no SQL, no parsing of clients' requests. Time comes from the keyholder's own
clock.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Protocol, assert_never

import msgspec

from ostiary.errors import OstiaryError
from ostiary.keyholder.protocol import (
    Batch,
    CatchUp,
    Document,
    Done,
    FromKeyholder,
    Hello,
    Prime,
    Primed,
    Refusal,
    Result,
    Resume,
    ToKeyholder,
    TreeState,
    Work,
    decode_request,
)
from ostiary.keyholder.witness import Witness
from ostiary.ledger.tree import HASH_BYTES, leaf_hash
from ostiary.work.entry import AUTHORIZED, build_entry
from ostiary.work.item import Item, ItemDecoder

Clock = Callable[[], datetime]

MAX_RECORD_AGE = timedelta(seconds=60)
"""How far the time of a record may lie from the keyholder's own clock: a recorder that waits longer than that
is not one.
"""


class Evaluator(Protocol):
    """What one service's keyholder does with its items. Pure but for its own keys and caches."""

    decoder: ItemDecoder

    def prime(self, document: Document, *, now: datetime) -> None:
        """Keep an approved document; raises OstiaryError where its approval does not hold."""

    def evaluate(self, item: Item, attachment: bytes, *, now: datetime) -> bytes:
        """Do what was recorded; raises Forbidden(rule) for everything outside guards, formulas, types,
        ceilings and approvals.
        """


class Keyholder:
    """Answers one recorder."""

    def __init__(self, *, witness: Witness, evaluator: Evaluator, clock: Clock) -> None:
        self._witness = witness
        self._evaluator = evaluator
        self._clock = clock

    def answer(self, body: bytes) -> FromKeyholder:
        """Answer one message (msgpack bytes of a `ToKeyholder`); never raises for anything a recorder can
        send.
        """
        try:
            return self._dispatch(decode_request(body))
        except (msgspec.DecodeError, msgspec.ValidationError):
            return Refusal(reason="not a message of this protocol")
        except OstiaryError as exc:
            return Refusal(reason=getattr(exc, "rule", exc.kind) + ": " + exc.message)

    def _dispatch(self, request: ToKeyholder) -> TreeState | Primed | Done:
        match request:
            case Hello():
                return self._witness.state()
            case Resume():
                self._witness.resume(request)
                return self._witness.state()
            case CatchUp():
                self._witness.catch_up(request)
                return self._witness.state()
            case Prime():
                now = self._clock()
                for document in request.documents:
                    self._evaluator.prime(document, now=now)
                return Primed()
            case Batch():
                return self._batch(request)
        assert_never(request)

    def _batch(self, batch: Batch) -> Done:
        note = self._witness.append(batch.first, batch.leaf_hashes)
        now = self._clock()
        return Done(
            note=note, results=tuple(self._result(work, batch.leaf_hashes, now) for work in batch.work)
        )

    def _result(self, work: Work, leaf_hashes: bytes, now: datetime) -> Result:
        try:
            item = self._evaluator.decoder.decode(work.item)
            if abs(work.at_ms / 1000 - now.timestamp()) > MAX_RECORD_AGE.total_seconds():
                return Result(refused="entry-time")
            entry = build_entry(item, work.item, AUTHORIZED, at_ms=work.at_ms)
            place = work.offset * HASH_BYTES
            if work.offset < 0 or leaf_hash(entry) != leaf_hashes[place : place + HASH_BYTES]:
                return Result(refused="entry-not-in-batch")
            return Result(output=self._evaluator.evaluate(item, work.attachment, now=now))
        except OstiaryError as exc:
            return Result(refused=getattr(exc, "rule", exc.kind), reason=exc.message)
        except Exception:  # noqa: BLE001  # one bad item must not take the batch with it, and no text of it may leave
            return Result(refused="keyholder-fault")
