"""The recorder's loop: channels in, one transaction at a time, the keyholder behind.

Plan of a round (`step`):
1. Take what arrived: requests join the queue, answers of the keyholder go to those who wait for them.
2. Give up on a batch that the keyholder will not answer any more.
3. Without a keyholder, connect and bring it up to date; where that fails, answer everyone "busy".
4. Record what is due, before what is asked: a load that fills every batch must not keep lists of revoked
   certificates from being published.
5. Record what is queued, as one turn, while no batch is at the keyholder.
6. Answer "busy" to those whose deadline has passed; nothing of theirs was recorded.
7. Store the keyholder's answers where no turn came to take them along.

Rules:
- One thread. Everything that waits when a turn begins goes into that turn (group commit); a turn is bounded
  by what fits into one frame to the keyholder.
- An answer leaves only after the keyholder has signed the tree that holds its entry. While the keyholder is
  away, nothing is recorded; behind a slow one, items wait unrecorded until their own deadlines.
- A channel carries the kinds on its list and no others.

Left to others: what is decided (`Service`), what is stored (`LedgerStore`), what is signed (keyholder).
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from ostiary.edge.frame import Status
from ostiary.edge.hub import AnswerArrived, Event, Hub, PeerGone, Request, reply_all
from ostiary.errors import BadInput, OstiaryError
from ostiary.keyholder.protocol import Done
from ostiary.recorder.batch import Placed, Recorder, Turn
from ostiary.recorder.keyholder_link import BATCH_TIMEOUT_S, RETRY_S, KeyholderLink
from ostiary.recorder.service import Asked, Service, Settled
from ostiary.work.answer import Recorded, Refused, encode_answer
from ostiary.work.item import RawItem
from ostiary.work.reports import Alarm

# Four batches were measured against one (docs/adr/0011, step 2): with one, turns hold 3.5 acts instead of 2.4
# at eight clients, for a tenth less CPU in recorder and keyholder.
MAX_IN_FLIGHT = 1
"""Batches at the keyholder; while it has one, acts gather for the next turn."""
MAX_TURN_ITEMS = 256
MAX_TURN_BYTES = 192 * 1024
"""Items of one turn; what rides beside them is counted when it is known (`ostiary.recorder.batch`)."""
MAX_ALARMS = 100
"""In one quarter of a second; the log has all of them."""
# Under load the next turn comes sooner and stores the answers; without load they cost a commit of their own.
FLUSH_AFTER_S = 0.005
# A quarter of the second within which a revocation must show.
DUE_EVERY_S = 0.25

_log = logging.getLogger("ostiary.recorder")


@dataclass(frozen=True, slots=True)
class _Waiting:
    request: Request
    asked: Asked


@dataclass(frozen=True, slots=True)
class _Sent:
    """A turn that the keyholder has."""

    turn: Turn
    waiters: list[_Waiting]
    at_ns: int


class RecorderLoop:
    """Joins hub, recorder and keyholder."""

    def __init__(self, *, hub: Hub, service: Service, recorder: Recorder, keyholder: KeyholderLink) -> None:
        self._hub = hub
        self._service = service
        self._recorder = recorder
        self._keyholder = keyholder
        self._queue: deque[_Waiting] = deque()
        self._in_flight: dict[bytes, _Sent] = {}
        self._next_due_s = 0.0
        self._settle_by_s = 0.0
        # The keyholder refused these after they were recorded: a lie or a bug, which the ledger's readers
        # must see.
        self._alarms: list[Alarm] = []

    def step(self) -> None:
        """One round: take events, record what waits, do what is due."""
        # 1.
        patience_s = self._patience()
        if self._in_flight:
            # What is asked meanwhile can't be recorded before the answer, so it need not wake anybody; and
            # the answer is passed on before it is read.
            self._handle_all(self._keyholder.poll(patience_s))
            patience_s = 0.0
        self._handle_all(self._hub.poll(patience_s))
        # 2.
        self._give_up_late()
        # 3.
        if not self._keyholder.ready and not self._keyholder.try_connect():
            self._refuse_all()
            self._settle_late()
            return
        # 4.
        self._do_due()
        # 5.
        while self._queue and self._may_record:
            self._record(self._take())
        # 6.
        self._drop_late()
        # 7.
        self._settle_late()

    @property
    def _may_record(self) -> bool:
        return self._keyholder.ready and len(self._in_flight) < MAX_IN_FLIGHT

    def _patience(self) -> float:
        """How long to sleep while nothing arrives."""
        now_s = time.monotonic()
        if self._recorder.unsettled and not self._queue:
            return max(0.0, self._settle_by_s - now_s)
        if not self._may_record:
            return RETRY_S
        return 0.0 if self._queue else max(0.0, self._next_due_s - now_s)

    def _handle_all(self, events: Iterable[Event]) -> None:
        for event in events:
            self._handle(event)

    def _handle(self, event: Event) -> None:
        match event:
            case Request():
                self._accept(event)
            case AnswerArrived():
                self._answered(event)
            case PeerGone(outgoing=True) if self._keyholder.lost(event.channel):
                self._busy_in_flight()
            case _:
                pass

    def _accept(self, request: Request) -> None:
        try:
            item = self._service.decoder.decode(request.body)
        except OstiaryError as exc:
            request.reply(
                Status.REFUSED, encode_answer(Refused(by="parser", rule="bad-item", reason=exc.message))
            )
            return
        if not isinstance(item, self._service.channels[request.channel]):
            _log.error(
                "item-not-on-list",
                extra={"channel": request.channel, "item": type(item).__name__, "pid": request.peer.pid},
            )
            refused = Refused(
                by="parser", rule="not-on-list", reason="this channel does not carry items of this kind"
            )
            request.reply(Status.REFUSED, encode_answer(refused))
            return
        self._queue.append(_Waiting(request, Asked(item=item, raw=RawItem(request.body))))

    def _take(self) -> list[_Waiting]:
        """The items of the next turn. Those whose sender has given up are dropped unrecorded, and unanswered:
        the sender no longer reads.
        """
        taken: list[_Waiting] = []
        size = 0
        now_ns = time.monotonic_ns()
        while self._queue and len(taken) < MAX_TURN_ITEMS and size < MAX_TURN_BYTES:
            waiting = self._queue.popleft()
            if waiting.request.deadline_ns > now_ns:
                taken.append(waiting)
                size += len(waiting.asked.raw)
        return taken

    def _record(self, taken: list[_Waiting]) -> None:
        if not taken:
            return
        turns = self._recorder.record([w.asked for w in taken], now_ms=_now_ms())
        # One turn for all of them, or one for each (`Recorder.record`); never anything between.
        shares = [taken] if len(turns) == 1 else [[one] for one in taken]
        for turn, waiters in zip(turns, shares, strict=True):
            if turn is None:
                _reply_busy(waiters)
            else:
                self._send(turn, waiters)

    def _send(self, turn: Turn, waiters: list[_Waiting]) -> None:
        request_id = self._keyholder.send_batch(turn.batch)
        # What was recorded stays in the ledger as an authorization without an answer (docs/adr/0009).
        if request_id is None:
            _reply_busy(waiters)
            self._busy_in_flight()
            return
        self._in_flight[request_id] = _Sent(turn, waiters, time.perf_counter_ns())

    def _answered(self, event: AnswerArrived) -> None:
        sent = self._in_flight.pop(event.request_id, None)
        if sent is None:
            return
        self._recorder.metrics.observe("keyholder", time.perf_counter_ns() - sent.at_ns)
        turn, waiters = sent.turn, sent.waiters
        done = self._keyholder.read_done(event)
        if done is None:
            _reply_busy(waiters)
            self._busy_in_flight()
            return
        if not self._recorder.unsettled:
            self._settle_by_s = time.monotonic() + FLUSH_AFTER_S
        self._recorder.unsettled.note = done.note
        outcomes = [(placed.ruling, self._outcome(placed, done)) for placed in turn.placed]
        # Sealing draws a random nonce: what was answered before it was stored could not be made again.
        if any(isinstance(ruling.item, self._service.settled_first) for ruling, _ in outcomes):
            self._recorder.flush()
        reply_all(
            (waiters[ruling.answers].request, status, encode_answer(answer))
            for ruling, (status, answer) in outcomes
            if ruling.answers is not None
        )

    def _outcome(self, placed: Placed, done: Done) -> tuple[Status, Recorded | Refused]:
        ruling, verdict, index = placed.ruling, placed.ruling.verdict, placed.index
        if verdict.decision == "denied":
            return Status.REFUSED, Refused(
                by="recorder", rule=verdict.rule, reason=verdict.reason, index=index
            )
        if placed.work is None:
            return Status.OK, Recorded(index=index, output=ruling.known_output, substitute=ruling.substitute)
        result = done.results[placed.work]
        if result.refused is not None:
            _log.error(
                "keyholder-refused",
                extra={"rule": result.refused, "index": index, "item": type(ruling.item).__name__},
            )
            self._raise_alarm(result.refused, index)
            return Status.REFUSED, Refused(
                by="keyholder", rule=result.refused, reason=result.reason, index=index
            )
        self._recorder.unsettled.results.append(Settled(item=ruling.item, index=index, output=result.output))
        return Status.OK, Recorded(index=index, output=result.output, substitute=ruling.substitute)

    def _raise_alarm(self, rule: str, index: int) -> None:
        # A secret of the wrong shape is the operator's mistake, which only the keyholder can see.
        if rule != BadInput.kind and len(self._alarms) < MAX_ALARMS:
            self._alarms.append(Alarm(what="keyholder-refused", detail=f"entry {index}: {rule}"))

    def _do_due(self) -> None:
        now_s = time.monotonic()
        if now_s < self._next_due_s or not self._may_record:
            return
        self._next_due_s = now_s + DUE_EVERY_S
        turns = self._recorder.record_due(self._alarms, now_ms=_now_ms())
        self._alarms.clear()
        for turn in turns:
            self._send(turn, [])

    def _settle_late(self) -> None:
        """Spend a commit on the keyholder's answers only where no turn came to take them along."""
        if self._recorder.unsettled and not self._queue and time.monotonic() >= self._settle_by_s:
            self._recorder.flush()

    def _drop_late(self) -> None:
        """Answer those whose deadline passed while the keyholder was slow; nothing of theirs was recorded."""
        now_ns = time.monotonic_ns()
        while self._queue and self._queue[0].request.deadline_ns <= now_ns:
            _reply_busy([self._queue.popleft()])

    def _give_up_late(self) -> None:
        """Connect anew to a keyholder that will not answer a batch any more: it drops a request whose
        deadline has passed when it reads it.
        """
        now_ns = time.perf_counter_ns()
        if any(now_ns - sent.at_ns > BATCH_TIMEOUT_S * 1e9 for sent in self._in_flight.values()):
            self._keyholder.give_up()
            self._busy_in_flight()

    def _refuse_all(self) -> None:
        _reply_busy(self._queue)
        self._queue.clear()

    def _busy_in_flight(self) -> None:
        for sent in self._in_flight.values():
            _reply_busy(sent.waiters)
        self._in_flight.clear()


def _reply_busy(waiters: list[_Waiting] | deque[_Waiting]) -> None:
    reply_all((waiting.request, Status.BUSY, b"") for waiting in waiters)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
