"""The smallest service that a recorder can serve: notes that are kept, and echoes that only the keyholder can
make.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Column, Connection, Integer, LargeBinary, MetaData, String, Table, insert

from ca.items import Activate, VoidToken
from ostiary.edge.channel import connect
from ostiary.edge.frame import Status
from ostiary.edge.hub import Hub
from ostiary.errors import Busy, Forbidden
from ostiary.keyholder.engine import Keyholder
from ostiary.keyholder.high_water import FileHighWater
from ostiary.keyholder.protocol import Document, encode_message
from ostiary.keyholder.recorder_socket import RecorderSocket, Request
from ostiary.keyholder.witness import Witness
from ostiary.recorder.batch import Recorder
from ostiary.recorder.client import RecorderClient
from ostiary.recorder.keyholder_link import KeyholderLink
from ostiary.recorder.ledger_store import LedgerStore
from ostiary.recorder.process import RecorderLoop
from ostiary.recorder.service import Asked, Ruling, Settled
from ostiary.store.database import open_for_writing, sqlite_url
from ostiary.store.ledger_tables import define_ledger_tables
from ostiary.work.answer import Recorded
from ostiary.work.entry import AUTHORIZED, Verdict
from ostiary.work.item import Item, ItemDecoder
from ostiary.work.reports import Alarm
from tests.support.waiting import PATIENCE_S

ORIGIN = "notes.example/ca"
KEY = Ed25519PrivateKey.from_private_bytes(b"\x09" * 32)
METADATA = MetaData()
LEDGER = define_ledger_tables(METADATA)
NOTES = Table(
    "notes",
    METADATA,
    Column("serial", String, primary_key=True),
    Column("count", Integer, nullable=False),
    Column("output", LargeBinary),
)


class NotesService:
    """`activate` is echoed by the keyholder; a serial that begins with "no" is denied, "boom" breaks the
    store.
    """

    origin = ORIGIN
    decoder = ItemDecoder((Activate, VoidToken, Alarm))
    channels: Mapping[str, tuple[type[Item], ...]] = {"front": (Activate,)}
    settled_first: tuple[type[Item], ...] = ()
    due_once: Sequence[Item] = ()

    def decide(self, tx: Connection, asked: Sequence[Asked], *, now_ms: int) -> list[Ruling]:
        return [self._rule(tx, position, one) for position, one in enumerate(asked)]

    def _rule(self, tx: Connection, position: int, asked: Asked) -> Ruling:
        item = asked.item
        if isinstance(item, Alarm):
            return Ruling(item=item, raw=asked.raw, verdict=AUTHORIZED, answers=None)
        serial = item.serial if isinstance(item, Activate) else ""
        if serial.startswith("no"):
            verdict = Verdict("denied", rule="notes-denied", reason="the service said no")
            return Ruling(item=item, raw=asked.raw, verdict=verdict, answers=position)
        if serial == "boom":
            tx.execute(insert(NOTES).values(serial=None, count=1))
        return Ruling(item=item, raw=asked.raw, verdict=AUTHORIZED, answers=position, attachment=b"beside")

    def settle(self, tx: Connection, settled: Sequence[Settled]) -> None:
        rows = [{"serial": f"{s.index}", "count": 1, "output": s.output} for s in settled]
        tx.execute(insert(NOTES), rows)

    def due(self, tx: Connection, *, now_ms: int) -> list[Item]:
        items, self.due_once = [*self.due_once], ()
        return items

    def documents(self, tx: Connection) -> list[Document]:
        return []


class EchoEvaluator:
    """Echoes, and keeps documents."""

    decoder = ItemDecoder((Activate,))

    def __init__(self) -> None:
        self.documents: list[Document] = []

    def prime(self, document: Document, *, now: datetime) -> None:
        self.documents.append(document)

    def evaluate(self, item: Item, attachment: bytes, *, now: datetime) -> bytes:
        if not isinstance(item, Activate) or item.serial.startswith("kh"):
            raise Forbidden("no", rule="echo-refused")
        return f"{item.serial} {attachment.decode()}".encode()


class Loop(threading.Thread):
    """A role's loop in a thread, until stopped."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.running = True

    def stop(self) -> None:
        self.running = False
        self.wake()
        self.join()

    def wake(self) -> None:
        """End the sleep of one that waits for events alone."""


class KeyholderThread(Loop):
    """The keyholder's process, as a thread."""

    def __init__(self, directory: Path, uid: int) -> None:
        super().__init__()
        self.recorders = RecorderSocket(directory / "k", recorder_uids=frozenset({uid}))
        witness = Witness(origin=ORIGIN, key=KEY, high_water=FileHighWater(directory / "high-water"))
        self.evaluator = EchoEvaluator()
        self.keyholder = Keyholder(witness=witness, evaluator=self.evaluator, clock=lambda: datetime.now(UTC))
        # While paused it takes everything and answers nothing.
        self.paused = False
        self._taken: list[Request] = []
        self.start()

    def drop_taken(self) -> None:
        """Forget what was taken, as a keyholder does with what is past its deadline."""
        self._taken.clear()

    def run(self) -> None:
        while self.running:
            self._taken += self.recorders.requests(0.02)
            if not self.paused:
                for request in self._taken:
                    request.reply(Status.OK, encode_message(self.keyholder.answer(request.body)))
                self._taken.clear()
        self.recorders.close()


class RecorderThread(Loop):
    """The recorder's process, as a thread."""

    def __init__(self, directory: Path, uid: int) -> None:
        super().__init__()
        self.engine = open_for_writing(sqlite_url(directory / "store.sqlite"))
        with self.engine.begin() as tx:
            METADATA.create_all(tx)
        self.service = service = NotesService()
        self._path = directory / "r"
        self.documents: list[Document] = []
        ledger = LedgerStore(self.engine, LEDGER)
        self.hub = Hub()
        self.hub.listen(self._path, channel="front", allowed_uids=frozenset({uid}))
        link = KeyholderLink(
            hub=self.hub,
            path=directory / "k",
            expected_uids=frozenset({uid}),
            ledger=ledger,
            documents=lambda: self.documents,
        )
        self.recorder = Recorder(engine=self.engine, service=service, ledger=ledger)
        self.loop = RecorderLoop(hub=self.hub, service=service, recorder=self.recorder, keyholder=link)
        self.steps = 0
        self.start()

    def wake(self) -> None:
        with contextlib.suppress(Busy):  # it has ended already
            connect(self._path, expected_uids=frozenset({os.getuid()})).close()

    def run(self) -> None:
        while self.running:
            self.loop.step()
            self.steps += 1
        self.hub.close()
        self.engine.dispose()


class PatientClient(RecorderClient):
    """A front's end whose own deadline no slow machine reaches."""

    def submit(self, item: Item, *, timeout_s: float = PATIENCE_S) -> Recorded:
        return super().submit(item, timeout_s=timeout_s)


@contextmanager
def client(directory: Path, uid: int) -> Iterator[RecorderClient]:
    """A front's end."""
    made = PatientClient(directory / "r", expected_uids=frozenset({uid}))
    try:
        yield made
    finally:
        made.close()
