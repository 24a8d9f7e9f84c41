"""The only way to a secret: evaluate what was recorded, nothing else (docs/architecture.md, "Recorded, then
done").

Plan of a batch:
1. Append the leaves to the frontier; sign the tree.
2. Of each work item, decode the bytes: a kind that this keyholder does not evaluate ends here.
3. Compare the time of its record with the keyholder's own clock.
4. Build the entry that the record of this item must be, hash it, and find it at its place among the leaves.
5. Hand the item to the service's evaluator. Its refusals are results, and alarms for whoever reads them.

Rules: one thread, no network, no SQL, no parsing of clients' requests.
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
"""How far the time of a record may lie from the keyholder's own clock. An honest recorder sends a batch
within milliseconds of its commit; sixty seconds are what it gives a slow keyholder (BATCH_TIMEOUT_S in
ostiary/recorder/keyholder_link.py). So nobody can keep a record and have it evaluated later.
"""


class Evaluator(Protocol):
    """What one service's keyholder does with its items: the port between this engine and a service. It
    touches nothing but its own keys and caches, is called by one thread, and need not be durable.
    """

    decoder: ItemDecoder

    def prime(self, document: Document, *, now: datetime) -> None:
        """Keep an approved document; raises OstiaryError where its approval is not valid."""

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
        """Answer one message (msgpack bytes of a `ToKeyholder`); never raises, whatever a recorder sends."""
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
        # 1. Before any work: a batch that does not continue the tree is refused as a whole, and nothing of it
        # is evaluated.
        note = self._witness.append(batch.first, batch.leaf_hashes)
        # Once for the batch, so that all of it is judged at one moment.
        now = self._clock()
        return Done(
            note=note, results=tuple(self._result(work, batch.leaf_hashes, now) for work in batch.work)
        )

    def _result(self, work: Work, leaf_hashes: bytes, now: datetime) -> Result:
        try:
            # 2.
            item = self._evaluator.decoder.decode(work.item)
            # 3.
            if abs(work.at_ms / 1000 - now.timestamp()) > MAX_RECORD_AGE.total_seconds():
                return Result(refused="entry-time")
            # 4. Built here from the item's own bytes (docs/adr/0008): whatever the recorder says of the item
            # beside them is never read. A denied item has another entry, so its work is not found either.
            entry = build_entry(item, work.item, AUTHORIZED, at_ms=work.at_ms)
            place = work.offset * HASH_BYTES
            if work.offset < 0 or leaf_hash(entry) != leaf_hashes[place : place + HASH_BYTES]:
                return Result(refused="entry-not-in-batch")
            # 5.
            return Result(output=self._evaluator.evaluate(item, work.attachment, now=now))
        except OstiaryError as exc:
            return Result(refused=getattr(exc, "rule", exc.kind), reason=exc.message)
        # One bad item must not take the batch with it. No text of the exception leaves: a library's message
        # may quote what it was given, and here that can be a secret.
        except Exception:  # noqa: BLE001 - see above
            return Result(refused="keyholder-fault")
