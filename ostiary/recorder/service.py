"""What a service must provide so that its acts are recorded: the port between the recorder's engine and a
service's decisions.

Rules:
- `decide` sees all items of a batch at once, reads the rows they concern under the writer's lock, and folds
  them in order in memory: two items for one token see each other. It writes the rows it changed, in as few
  statements as it can, in the transaction it was given.
- A ruling is the future entry. A service may add rulings that nobody asked for (a revocation's descendants)
  and may put another item in the place of the one asked (a lost answer is signed again).
- Nothing here signs, opens or evaluates; `settle` only stores what the keyholder made of earlier rulings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from sqlalchemy import Connection

from ostiary.keyholder.protocol import Document
from ostiary.work.entry import Verdict
from ostiary.work.item import Item, ItemDecoder, RawItem


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One item as it came in over a channel."""

    item: Item
    raw: RawItem


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """One entry to be: the item, what was decided, and whether the keyholder has something to do.

    `answers` is the position of the asked item that waits for this ruling, None where nobody waits.
    `attachment` rides beside the item; None where the keyholder takes no part (its earlier output, if there
    is one, is `known_output`). `substitute` goes to the asker as it is. `salt` is kept beside the entry;
    deleting it redacts the entry's digests.
    """

    item: Item
    raw: RawItem
    verdict: Verdict
    answers: int | None
    attachment: bytes | None = None
    salt: bytes | None = None
    known_output: bytes = b""
    substitute: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """The keyholder's output for an earlier ruling, whose entry has this index."""

    item: Item
    index: int
    output: bytes


class Service(Protocol):
    """One service's part in the recorder. Called by the recorder's only thread, always within its
    transaction: what a method writes is durable with the entries of the turn, or not at all.
    """

    origin: str
    decoder: ItemDecoder
    channels: Mapping[str, tuple[type[Item], ...]]
    """The kinds of items that each channel may carry."""
    settled_first: tuple[type[Item], ...]
    """Kinds whose output must be stored before it is answered: the keyholder would not make the same bytes
    again.
    """

    def decide(self, tx: Connection, asked: Sequence[Asked], *, now_ms: int) -> list[Ruling]:
        """Rule on every asked item exactly once, and write what changes; raises only where the store is
        broken.
        """

    def settle(self, tx: Connection, settled: Sequence[Settled]) -> None:
        """Store what the keyholder made (signatures, sealed blobs)."""

    def due(self, tx: Connection, *, now_ms: int) -> list[Item]:
        """Items that are due (CRLs, pending certificates that ran out); they come back through `decide`."""

    def documents(self, tx: Connection) -> list[Document]:
        """The approved documents with which a keyholder is primed."""
