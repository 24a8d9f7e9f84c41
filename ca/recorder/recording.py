"""A CA's part in the recorder: reads the rows that a batch concerns, decides it, writes the changes.

Rules:
- Deciding is pure (`ca.recorder.decide`); reading and writing take a few statements per batch
  (`ca.recorder.storing`).
- Nobody waits for an item that the recorder asks of itself.
- Signatures are deterministic, so storing them may wait for the next turn; the keyholder makes those that a
  crash lost again at the start.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, bindparam, null, select, update

from ca.items import (
    ADMIN,
    FRONT,
    INTERNAL,
    RESPONDER,
    ExpirePending,
    FrontCertificate,
    PublishCRL,
    Redeem,
    Renew,
    Resign,
    Spawn,
)
from ca.recorder.decide import decide_item
from ca.recorder.decision import DONE, Decision, Terms
from ca.recorder.issuing import RESIGN_S, prepared_of
from ca.recorder.publishing import Publisher
from ca.recorder.storing import load, store
from ca.store.certificate_columns import read_certificates
from ca.store.tables import CERTIFICATES
from ca.store.tbs_packing import Templates
from ostiary.keyholder.protocol import Document
from ostiary.recorder.service import Asked, Ruling, Settled
from ostiary.store.statement import Statement
from ostiary.timestamp import EpochSeconds
from ostiary.work.entry import AUTHORIZED
from ostiary.work.item import Item, ItemDecoder
from ostiary.work.item_encoding import encode_item

CHANNELS: Final[Mapping[str, tuple[type[Item], ...]]] = {
    "front": FRONT,
    "responder": RESPONDER,
    "admin": ADMIN,
}
# Of one turn, which clients' items share; what is left is due again 0.25 s later.
MAX_EXPIRED_AT_ONCE: Final = 200
_STORE_SIGNATURE: Final = Statement(
    update(CERTIFICATES)
    .where(CERTIFICATES.c.serial == bindparam("k"))
    .values(signature=bindparam("v"), reserved=null())
)
# Of one turn; the others are signed when their clients ask again.
MAX_RESIGNED_AT_ONCE: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class CASettings:
    """Settings that stay the same while a recorder runs."""

    origin: str
    node: str
    grants: Mapping[str, frozenset[str]]
    signature_algorithm_der: bytes
    max_lifetime_s: int
    max_node_lifetime_s: int


class CAService:
    """Implements `ostiary.recorder.service.Service`. Owner: the recorder's thread."""

    decoder = ItemDecoder((*FRONT, *RESPONDER, *ADMIN))
    channels = CHANNELS
    # None: a signature that is lost is made again with the same bytes.
    settled_first: tuple[type[Item], ...] = ()

    def __init__(self, settings: CASettings, publisher: Publisher) -> None:
        self.origin = settings.origin
        self._settings = settings
        self._publisher = publisher
        self._templates = Templates()
        self._looked_for_unsigned = False

    def decide(self, tx: Connection, asked: Sequence[Asked], *, now_ms: int) -> list[Ruling]:
        """Rule on a batch.

        1. Read the rows that the items concern.
        2. Decide one after the other, each against the rows as the earlier ones left them.
        3. Write the rows that changed, in the same transaction as the entries.
        """
        # 1.
        now_s = EpochSeconds(now_ms // 1000)
        rows = load(tx, [each.item for each in asked], self._templates, now_s=now_s)
        terms = self._terms(now_s)
        # 2.
        rulings: list[Ruling] = []
        for position, each in enumerate(asked):
            if isinstance(each.item, PublishCRL):
                rulings += self._publish(tx, each, each.item)
            else:
                answers = None if isinstance(each.item, INTERNAL) else position
                rulings += _rulings(each, decide_item(rows, each.item, terms), answers)
        # 3.
        store(tx, rows, self._templates)
        return rulings

    def settle(self, tx: Connection, settled: Sequence[Settled]) -> None:
        """Store signatures."""
        signatures: list[dict[str, object]] = []
        for each in settled:
            match each.item:
                case Redeem() | Renew() | Spawn() | Resign() | FrontCertificate():
                    signatures.append({"k": each.item.certificate.serial, "v": each.output})
                case PublishCRL():
                    self._publisher.signed(tx, each.item, each.output)
                case _:
                    pass
        if signatures:
            _STORE_SIGNATURE.run_each(tx, signatures)

    def due(self, tx: Connection, *, now_ms: int) -> list[Item]:
        """At a start, certificates without a signature; then pending ones that ran out of time, and lists."""
        now_s = EpochSeconds(now_ms // 1000)
        # First and alone: their clients wait, and have waited since before the restart.
        if not self._looked_for_unsigned:
            self._looked_for_unsigned = True
            if unsigned := _unsigned(tx, self._templates, now_s):
                return unsigned
        deadline = CERTIFICATES.c.deadline
        late = (
            select(CERTIFICATES.c.serial)
            .where(deadline.is_not(None), deadline <= now_s)
            .order_by(deadline)
            .limit(MAX_EXPIRED_AT_ONCE)
        )
        expired = [ExpirePending(serial=serial) for serial in tx.execute(late).scalars()]
        return [*expired, *self._publisher.due(tx, now_s=now_s)]

    def documents(self, tx: Connection) -> list[Document]:  # noqa: ARG002 - the port
        """A CA's keyholder takes none."""
        return []

    def _publish(self, tx: Connection, asked: Asked, item: PublishCRL) -> list[Ruling]:
        tbs = self._publisher.attachment(item)
        if tbs is None:
            raise AssertionError("a list that was not due")
        self._publisher.record(tx, item)
        return [Ruling(item=item, raw=asked.raw, verdict=AUTHORIZED, answers=None, attachment=tbs)]

    def _terms(self, now_s: EpochSeconds) -> Terms:
        return Terms(
            now_s=now_s,
            node=self._settings.node,
            grants=self._settings.grants,
            signature_algorithm_der=self._settings.signature_algorithm_der,
            max_lifetime_s=self._settings.max_lifetime_s,
            max_node_lifetime_s=self._settings.max_node_lifetime_s,
        )


def _unsigned(tx: Connection, templates: Templates, now_s: EpochSeconds) -> list[Item]:
    """Certificates that an earlier process recorded and got no signature for, as long as the keyholder still
    makes one; the others wait to be asked for.
    """
    lost = (
        select(CERTIFICATES)
        .where(
            CERTIFICATES.c.issued_at >= now_s - RESIGN_S,
            CERTIFICATES.c.signature.is_(None),
            CERTIFICATES.c.status != "revoked",
        )
        .order_by(CERTIFICATES.c.issued_at.desc())
        .limit(MAX_RESIGNED_AT_ONCE)
    )
    return [Resign(certificate=prepared_of(row)) for row in read_certificates(tx, lost, templates)]


def _rulings(asked: Asked, decision: Decision, answers: int | None) -> list[Ruling]:
    item = decision.item or asked.item
    first = Ruling(
        item=item,
        raw=asked.raw if decision.item is None else encode_item(item),
        verdict=decision.verdict,
        answers=answers,
        attachment=decision.attachment,
        known_output=decision.known_output,
        substitute=decision.substitute,
    )
    return [first, *(_rulings(Asked(item=i, raw=encode_item(i)), DONE, None)[0] for i in decision.also)]
