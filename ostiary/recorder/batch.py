"""One turn of the recorder: what waits becomes entries and rows in one transaction, then one batch for the
keyholder.

Plan of a turn:
1. Take the store's one order of writers.
2. Settle: store what the keyholder answered to earlier turns.
3. Decide: let the service rule on all that was asked, or that is due.
4. Build the entries and append them to the ledger with their salts.
5. Commit. Durable from here on: SQLite synchronous=FULL, PostgreSQL synchronous_commit=on.
6. Hand back the batch for the keyholder, and who waits for which of its leaves.

A turn that the store refuses as a whole is made again item by item, so that one bad item fails alone. So is a
turn whose attachments are more than one message takes: they are known only once the items were decided.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from ostiary.edge.metrics import Metrics
from ostiary.keyholder.protocol import Batch, Work
from ostiary.recorder.ledger_store import LedgerStore
from ostiary.recorder.service import Asked, Ruling, Service, Settled
from ostiary.work.entry import build_entry
from ostiary.work.item import Item
from ostiary.work.item_encoding import encode_item

_log = logging.getLogger("ostiary.recorder")
STAGES = ("turn", "settle", "decide", "append", "flush", "keyholder")
"""Of a turn: storing earlier answers, deciding, entries and tree; the rest of a turn is its commit. A flush
is a turn of answers alone; `keyholder` is the round trip of a batch.
"""

# 425,952 bytes is the least that a channel takes (ostiary/edge/packet_socket.py); 32,736 of them are left for
# 256 leaf hashes, the framing of 256 items and the message's own.
MAX_WORK_BYTES = 384 * 1024
"""Items of one batch, with what rides beside them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A ruling at its place in the ledger; `work` is its position in the batch's work, None where the
    keyholder takes no part.
    """

    ruling: Ruling
    index: int
    work: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What one transaction recorded."""

    placed: tuple[Placed, ...]
    batch: Batch


@dataclass(slots=True)
class Unsettled:
    """The keyholder's answers that are not stored yet. To lose them costs nothing: signatures are
    deterministic, so a recorded certificate is signed again with the same bytes.
    """

    results: list[Settled] = field(default_factory=list)
    note: bytes | None = None

    def __bool__(self) -> bool:
        return bool(self.results) or self.note is not None


class Recorder:
    """The writer of one store. Owner: the recorder's only thread."""

    def __init__(self, *, engine: Engine, service: Service, ledger: LedgerStore) -> None:
        self._engine = engine
        self._service = service
        self._ledger = ledger
        self.unsettled = Unsettled()
        self.metrics = Metrics(stages=STAGES, counters=("items",), processes=1)

    def record(self, asked: Sequence[Asked], *, now_ms: int) -> list[Turn | None]:
        """Record what was asked: one turn; or one for each item where the store refused them together (None
        for an item that it refused alone), or where together they are more than one message takes.
        """
        self.metrics.count("items", len(asked))
        try:
            with self.metrics.stage("turn"):
                return [self._turn(asked, now_ms)]
        except DBAPIError as exc:
            _log.warning("store-refused-turn", extra={"items": len(asked), "error": type(exc.orig).__name__})
            if len(asked) == 1:
                return [None]
        except _TooMuchWork:
            _log.info("turn-divided", extra={"items": len(asked)})
        return [turn for one in asked for turn in self.record([one], now_ms=now_ms)]

    def record_due(self, alarms: Sequence[Item], *, now_ms: int) -> list[Turn]:
        """Record what is due, and the recorder's own alarms; no turn where there is nothing."""
        # A transaction of its own: what is due then comes back through `decide` like any other item, under
        # the lock of its own turn.
        with self._engine.begin() as tx:
            items = [*alarms, *self._service.due(tx, now_ms=now_ms)]
        if not items:
            return []
        turns = self.record([ask(item) for item in items], now_ms=now_ms)
        return [turn for turn in turns if turn is not None]

    def flush(self) -> None:
        """Store what the keyholder answered, without waiting for the next turn."""
        taken, self.unsettled = self.unsettled, Unsettled()
        try:
            with self.metrics.stage("flush"), self._engine.begin() as tx:
                self._settle(tx, taken)
        except DBAPIError:
            self.unsettled = taken
            raise

    def _turn(self, asked: Sequence[Asked], now_ms: int) -> Turn:
        # The edge of the tree in memory, and what is unsettled, change only after the commit: a turn that
        # fails leaves both as they were.
        taken = self.unsettled
        stage = self.metrics.stage
        with self._engine.begin() as tx:
            with stage("settle"):
                # 1.
                self._ledger.lock(tx)
                # 2. Before deciding, which may ask for a certificate that was signed a moment ago.
                self._settle(tx, taken)
            with stage("decide"):  # 3.
                rulings = self._service.decide(tx, asked, now_ms=now_ms)
                if len(asked) > 1 and _work_bytes(rulings) > MAX_WORK_BYTES:
                    raise _TooMuchWork
            with stage("append"):  # 4. `begin` commits after it: 5.
                entries = [build_entry(r.item, r.raw, r.verdict, at_ms=now_ms) for r in rulings]
                appended = self._ledger.append(tx, entries, [r.salt for r in rulings])
        self._ledger.advance(appended)
        self.unsettled = Unsettled()
        # 6.
        return _turn_of(rulings, appended.first, b"".join(appended.leaf_hashes), now_ms)

    def _settle(self, tx: Connection, unsettled: Unsettled) -> None:
        if unsettled.results:
            self._service.settle(tx, unsettled.results)
        if unsettled.note is not None:
            self._ledger.store_note(tx, unsettled.note)


class _TooMuchWork(Exception):
    """Rolls back a turn that must be divided."""


def _work_bytes(rulings: Sequence[Ruling]) -> int:
    return sum(
        len(ruling.raw) + len(ruling.attachment) for ruling in rulings if ruling.attachment is not None
    )


def ask(item: Item) -> Asked:
    """An item that the recorder itself asks for."""
    return Asked(item=item, raw=encode_item(item))


def _turn_of(rulings: Sequence[Ruling], first: int, leaf_hashes: bytes, now_ms: int) -> Turn:
    placed: list[Placed] = []
    work: list[Work] = []
    for offset, ruling in enumerate(rulings):
        position = None
        if ruling.attachment is not None:
            position = len(work)
            work.append(Work(offset=offset, at_ms=now_ms, item=ruling.raw, attachment=ruling.attachment))
        placed.append(Placed(ruling=ruling, index=first + offset, work=position))
    return Turn(placed=tuple(placed), batch=Batch(first=first, leaf_hashes=leaf_hashes, work=tuple(work)))
