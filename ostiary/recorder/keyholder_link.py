"""The recorder's link to its keyholder: bring it up to date, then send one batch after the other.

Plan after every loss of the connection (the messages are in ostiary/keyholder/protocol.py):
1. Ask how far its tree goes.
2. Resume a keyholder that has just started with the last checkpoint that was stored.
3. Show it the leaves that it missed, stopping exactly at the newest tree that it signed: there it compares
   roots.
4. Prime it with the approved documents.
5. Open the link for batches; only now is it `ready`.

A refusal at any of these steps is logged as an error, and the service refuses work: either this store was
rewound, or one of the two lies.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec

from ostiary.edge.channel import Client
from ostiary.edge.frame import Status
from ostiary.edge.hub import AnswerArrived, Event, Hub, Link
from ostiary.errors import Busy, InternalFault, OstiaryError
from ostiary.keyholder.client import decode_answer
from ostiary.keyholder.protocol import (
    Batch,
    CatchUp,
    Document,
    Done,
    FromKeyholder,
    Hello,
    Prime,
    Primed,
    Resume,
    ToKeyholder,
    TreeState,
    encode_message,
)
from ostiary.recorder.ledger_store import LedgerStore

RETRY_S = 0.05
HANDSHAKE_TIMEOUT_S = 5.0
BATCH_TIMEOUT_S = 60.0
"""Long, because the answer of a slow keyholder is still wanted: it carries the checkpoint. The deadlines of
those who asked end earlier.
"""
# 128 KiB of hashes: below the least frame, and a million leaves take 245 messages.
CATCH_UP_LEAVES = 4096

_log = logging.getLogger("ostiary.recorder")
MessageT = TypeVar("MessageT")


class KeyholderLink:
    """At most one connection; `ready` says that batches may be sent."""

    def __init__(
        self,
        *,
        hub: Hub,
        path: Path,
        expected_uids: frozenset[int],
        ledger: LedgerStore,
        documents: Callable[[], list[Document]],
    ) -> None:
        self._hub = hub
        self._path = path
        self._expected_uids = expected_uids
        self._ledger = ledger
        self._documents = documents
        self._link: Link | None = None
        # Each connection has a name of its own: the end of an old one, reported late, must not end the new
        # one.
        self._connections = 0
        self._next_try_s = 0.0

    @property
    def ready(self) -> bool:
        """Whether the keyholder is up to date and connected."""
        return self._link is not None

    def try_connect(self) -> bool:
        """Bring the keyholder up to date and connect; False where that is not possible now."""
        now_s = time.monotonic()
        if now_s < self._next_try_s:
            return False
        self._next_try_s = now_s + RETRY_S
        try:
            self._bring_up_to_date()  # 1. to 4.
            # 5.
            self._connections += 1
            name = f"keyholder-{self._connections}"
            self._link = self._hub.connect(self._path, expected_uids=self._expected_uids, name=name)
        except Busy:
            return False
        except OstiaryError as exc:
            _log.error("keyholder-refuses-the-ledger", extra={"reason": exc.message})
            # Nothing will change until an operator acts; more tries would only fill the log.
            self._next_try_s = now_s + 1.0
            return False
        return True

    def lost(self, name: str) -> bool:
        """Note that the connection of this name ended; True where it was the one in use."""
        if self._link is None or self._link.channel != name:
            return False
        self._link = None
        return True

    def send_batch(self, batch: Batch) -> bytes | None:
        """Send a batch; its request id, or None where the keyholder is gone or does not read. It is shown the
        leaves when it is back.
        """
        if self._link is None:
            return None
        deadline_ns = time.monotonic_ns() + int(BATCH_TIMEOUT_S * 1e9)
        try:
            return self._link.send(encode_message(batch), deadline_ns=deadline_ns)
        except OstiaryError as exc:
            _log.warning("keyholder-not-reached", extra={"reason": exc.message})
            self._drop()
            return None

    def poll(self, timeout_s: float) -> list[Event]:
        """What the keyholder says, as soon as it does; nothing else that arrives ends the sleep."""
        return [] if self._link is None else self._hub.poll_link(self._link, timeout_s)

    def read_done(self, event: AnswerArrived) -> Done | None:
        """The answer to a batch. None for anything but `Done`; the keyholder must then be brought up to date
        again.
        """
        try:
            answer = decode_answer(event.body)
        except msgspec.MsgspecError:
            answer = None
        if isinstance(answer, Done):
            return answer
        _log.error("keyholder-refused-batch", extra={"answer": str(answer)})
        self._drop()
        return None

    def give_up(self) -> None:
        """Drop a keyholder that did not answer a batch within BATCH_TIMEOUT_S."""
        _log.error("keyholder-silent", extra={"after_s": BATCH_TIMEOUT_S})
        self._drop()

    def _drop(self) -> None:
        if self._link is not None and self._link.alive:
            self._hub.end_later(self._link)
        self._link = None

    def _bring_up_to_date(self) -> None:
        # Each of these steps waits for its answer, so a client that blocks is simpler than the hub; nothing
        # else can be done before they are through.
        client = Client(self._path, expected_uids=self._expected_uids)
        try:
            # 1.
            state = _expect(TreeState, _call(client, Hello()))
            # 2.
            if state.fresh:
                state = _expect(TreeState, _call(client, self._resumption()))
            # 3.
            self._show_missed(client, state)
            # 4. One by one: together they could be more than a frame.
            for document in self._documents():
                _expect(Primed, _call(client, Prime(documents=(document,))))
        finally:
            client.close()

    def _resumption(self) -> Resume:
        note, frontier = self._ledger.last_signed()
        return Resume(note=note, size=frontier.size, peaks=b"".join(frontier.peaks))

    def _show_missed(self, client: Client, state: TreeState) -> None:
        # The keyholder holds leaves that are not in the store: an old copy of the store was put in its place.
        if state.size > self._ledger.size:
            raise InternalFault(
                f"the keyholder signed {state.size} entries, but this store has {self._ledger.size}: "
                "the store was rewound"
            )
        at = state.size
        while at < self._ledger.size:
            end = min(at + CATCH_UP_LEAVES, self._ledger.size)
            if at < state.must_pass < end:
                end = state.must_pass
            _expect(
                TreeState, _call(client, CatchUp(first=at, leaf_hashes=self._ledger.leaf_hashes(at, end)))
            )
            at = end


def _call(client: Client, message: ToKeyholder) -> FromKeyholder:
    answer = client.call(encode_message(message), timeout_s=HANDSHAKE_TIMEOUT_S)
    if answer.status is not Status.OK:
        raise Busy("the keyholder is busy")
    try:
        return decode_answer(answer.body)
    except msgspec.MsgspecError as exc:
        raise InternalFault("the keyholder does not speak this protocol") from exc


def _expect(kind: type[MessageT], message: object) -> MessageT:
    if isinstance(message, kind):
        return message
    raise InternalFault(f"the keyholder refused: {message}")
