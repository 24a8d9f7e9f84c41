"""A credentials service's part in the recorder: reads what a batch concerns, decides it, writes what changed.

Rules:
- What is decided is pure (`credsvc.recorder.decide`); what is read and written are a few statements
  (`credsvc.recorder.storing`).
- An item that the recorder asks of itself has nobody who waits for it.
- Puts and approvals are stored when the keyholder has done its part (`settle`), and answered only then.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from sqlalchemy import Connection

from credsvc.items import ADMIN, FRONT, INTERNAL, ApproveModule, PutCredential, Use
from credsvc.recorder.decide import decide_item
from credsvc.recorder.storing import activate, active_documents, load, store, store_sealed
from credsvc.store.rows import Rows
from ostiary.keyholder.protocol import Document
from ostiary.recorder.service import Asked, Ruling, Settled
from ostiary.work.item import Item, ItemDecoder


class CredentialRecording:
    """Implements `ostiary.recorder.service.Service`. Owner: the recorder's thread."""

    channels: Mapping[str, tuple[type[Item], ...]] = {"front": FRONT, "admin": ADMIN}
    settled_first: tuple[type[Item], ...] = (PutCredential, ApproveModule)

    def __init__(self, application: str) -> None:
        self.origin = f"{application}/credentials"
        # Some acts are on both lists (an item of each kind is decoded by its tag, so each kind stands once).
        self.decoder = ItemDecoder(tuple(dict.fromkeys((*FRONT, *ADMIN, *INTERNAL))))

    def decide(self, tx: Connection, asked: Sequence[Asked], *, now_ms: int) -> list[Ruling]:
        """Rule on a batch; see ostiary.recorder.service."""
        rows = load(tx, [each.item for each in asked])
        return [self._rule(tx, rows, position, each, now_ms) for position, each in enumerate(asked)]

    def _rule(self, tx: Connection, rows: Rows, position: int, asked: Asked, now_ms: int) -> Ruling:
        item = asked.item
        verdict, attachment = decide_item(rows, item)
        if verdict.decision == "authorized":
            store(tx, item, now_ms=now_ms)
        salt = item.salt if isinstance(item, Use) else None
        # What the recorder asks of itself (an alarm) has nobody who waits for it.
        answers = None if isinstance(item, INTERNAL) else position
        return Ruling(
            item=item, raw=asked.raw, verdict=verdict, answers=answers, attachment=attachment, salt=salt
        )

    def settle(self, tx: Connection, settled: Sequence[Settled]) -> None:
        """Store sealed credentials and approvals; a use leaves nothing but its entry."""
        for done in settled:
            match done.item:
                case PutCredential():
                    store_sealed(tx, done.item, done.output, now_ms=time.time_ns() // 1_000_000)
                case ApproveModule():
                    activate(tx, done.item)
                case _:
                    pass

    def due(self, tx: Connection, *, now_ms: int) -> list[Item]:  # noqa: ARG002 - the port
        """Nothing here depends on time alone."""
        return []

    def documents(self, tx: Connection) -> list[Document]:
        """The active modules' manifests with their approvals."""
        return active_documents(tx)
