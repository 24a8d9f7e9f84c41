"""Revocation lists: which one is due when, and its to-be-signed bytes.

Plan of `due`, at every call (four times a second):
1. A shard is due when it has new revocations, when its list is to be refreshed, or when the last one never
   came back signed.
2. At most one list per shard and second: thisUpdate has whole seconds and must grow, because OpenSSL keeps
   the first of two lists of one second.
3. As many lists as fit into one batch for the keyholder; the rest waits for the next call.
4. When no shard is due any more, the complete list follows. Its `through` tells a recorder that starts how
   far the shards are.

Rules:
- The entries of a shard are kept in memory once it was published; a new list reads only the feed's new steps.
- An entry leaves the lists a day after its certificate expired (RFC 5280 section 3.3), at the list's next
  refresh.
- The complete list has a limit, the frame of a channel. Beyond it only the shards' lists are published, and
  the log says so.

Owner: the recorder's thread, which reads and writes the store here in its transaction. What is kept in memory
follows committed rows only, so a turn that is undone leaves it right.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Final

from sqlalchemy import Connection, delete, or_, select, update

from ca.certificates.crl import CRLIssuer, assemble_crl, build_tbs_cert_list
from ca.certificates.shards import is_retired
from ca.items import COMPLETE, PublishCRL
from ca.recorder.storing import store_crl
from ca.store.reader import feed_end
from ca.store.rows import CRLRow
from ca.store.tables import CRLS, REVOCATIONS, SHARDS
from ostiary.timestamp import EpochSeconds, moment_of

VALIDITY: Final = timedelta(hours=24)
# Twice within a list's validity: a CA that was down for half a day still has lists that verifiers take.
REFRESH_S: Final = 12 * 3600
MAX_LIST_BYTES: Final = 384 * 1024
"""Lists of one batch, and the complete one: below a channel's frame where SO_SNDBUF can't be raised (425,952
bytes). About 7,400 unexpired revoked certificates; a shard never has as many (ca/certificates/shards.py).
"""
# Longer than REFRESH_S, so that each entry is on a list that was issued after its certificate expired (RFC
# 5280 section 3.3).
KEPT_S: Final = 24 * 3600
# A batch's round trip takes milliseconds; a list that is not back by then was lost with a keyholder that
# ended.
LOST_AFTER_S: Final = 5
RETIRE_EVERY_S: Final = 3600

_log = logging.getLogger("ostiary.recorder")


@dataclass(slots=True)
class _Entries:
    """The entries of one list: the feed up to `through`, each with the time until which it is listed."""

    through: int = 0
    kept: list[tuple[int, bytes]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Unsigned:
    """A list whose signature is on its way, or was stored in a turn that may still fail."""

    tbs: bytes
    since_s: EpochSeconds


class Publisher:
    """The revocation lists of one CA."""

    def __init__(self, issuer: CRLIssuer, *, crl_base_url: str) -> None:
        self._issuer = issuer
        self._crl_base_url = crl_base_url
        self._entries: dict[int, _Entries] = {}
        # Shards whose list lacks a step of the feed, or was recorded and never came back signed.
        self._dirty: set[int] = set()
        # The feed's newest step whose shard was put into `_dirty`.
        self._seen = 0
        self._has_looked_at_start = False
        # (shard, number) -> a list on its way to the keyholder
        self._unsigned: dict[tuple[int, int], _Unsigned] = {}
        self._retire_at = EpochSeconds(0)  # at the first call

    def due(self, tx: Connection, *, now_s: EpochSeconds) -> list[PublishCRL]:
        """The lists to publish now; each comes back through `attachment` and `record`, or is due again.

        The numbers are those of the plan in the module's docstring.
        """
        # 1. What became due since the last call: `_dirty` has the shards, `_waiting` adds those to refresh.
        if not self._has_looked_at_start:
            self._look_at_start(tx, now_s)
        self._retire(tx, now_s)
        self._look_at_feed(tx)
        self._look_for_lost(tx, now_s)
        items: list[PublishCRL] = []
        size_bytes = 0
        is_full = False
        for row in self._waiting(tx, now_s):
            # 2. The shard's last list is of this very second, or 3. the batch is full: not now, but still
            #    due.
            must_wait = _is_of_this_second(row, now_s) or is_full
            if must_wait and row.shard != COMPLETE:
                # 4. The complete list tells a process that starts how far the shards are. Published before a
                # shard that waits, it would tell of steps that the shard's list lacks.
                self._dirty.add(COMPLETE)
            if must_wait or (row.shard == COMPLETE and self._dirty - {COMPLETE, *_shards_of(items)}):
                continue
            item, tbs = self._list(tx, row, now_s)
            if row.shard == COMPLETE and len(tbs) > MAX_LIST_BYTES:
                self._leave_out(tx, row, now_s, len(tbs))
                continue
            # 3. The first list always goes, whatever its size: a shard is never larger than a batch, because
            # it closes long before (ca/certificates/shards.py).
            is_full = bool(items) and size_bytes + len(tbs) > MAX_LIST_BYTES
            if is_full:
                self._dirty.add(COMPLETE)  # 4. as above: this shard waits
                continue
            self._unsigned[row.shard, item.number] = _Unsigned(tbs, now_s)
            items.append(item)
            size_bytes += len(tbs)
        return items

    def attachment(self, item: PublishCRL) -> bytes | None:
        """The to-be-signed bytes of a list that `due` asked for."""
        found = self._unsigned.get((item.shard, item.number))
        return None if found is None else found.tbs

    def record(self, tx: Connection, item: PublishCRL) -> None:
        """The list goes to the keyholder in this turn."""
        entries = self._entries[item.shard]
        store_crl(
            tx,
            CRLRow(
                shard=item.shard,
                number=item.number,
                through=entries.through,
                this_update=EpochSeconds(item.this_update),
                refresh_at=EpochSeconds(item.this_update + REFRESH_S),
            ),
        )
        # Steps may have been added to the feed since `due` made this list: then the shard is due again.
        if entries.through >= self._seen:
            self._dirty.discard(item.shard)

    def signed(self, tx: Connection, item: PublishCRL, signature: bytes) -> None:
        """Keep a signed list for whoever serves it."""
        found = self._unsigned.get((item.shard, item.number))
        if found is not None:
            # Signatures may come back in another order than their lists were recorded in; a served list never
            # goes back to an older one.
            newer = (CRLS.c.shard == item.shard) & (CRLS.c.signed_number < item.number)
            der = assemble_crl(found.tbs, self._issuer, signature)
            tx.execute(update(CRLS).where(newer).values(der=der, signed_number=item.number))

    def _look_at_start(self, tx: Connection, now_s: EpochSeconds) -> None:
        """What an earlier process left: how far the complete list went, and lists that were recorded and
        never signed.
        """
        known = tx.execute(select(CRLS.c.through).where(CRLS.c.shard == COMPLETE)).scalar_one_or_none()
        if known is None:
            store_crl(tx, CRLRow(shard=COMPLETE, number=0, through=0, this_update=None, refresh_at=now_s))
        # Their to-be-signed bytes were only in that process's memory, and thisUpdate would be old by now. So
        # they are made anew under the next number: CRLNumber must grow, and may skip (RFC 5280 section
        # 5.2.3).
        unsigned = select(CRLS.c.shard).where(CRLS.c.signed_number < CRLS.c.number)
        self._dirty |= set(tx.execute(unsigned).scalars())
        self._seen = known or 0
        # Until that row is there, committed: this turn may still be undone.
        self._has_looked_at_start = known is not None

    def _look_at_feed(self, tx: Connection) -> None:
        """Mark the shards of the feed's new steps, and with them the complete list."""
        end = feed_end(tx)
        if end > self._seen:
            shards = select(REVOCATIONS.c.shard).where(REVOCATIONS.c.n > self._seen).distinct()
            self._dirty |= {*tx.execute(shards).scalars(), COMPLETE}
            self._seen = end

    def _retire(self, tx: Connection, now_s: EpochSeconds) -> None:
        """Drop shards whole once the last of their certificates has been expired for a day; the newest two
        stay.
        """
        if now_s < self._retire_at:
            return
        self._retire_at = EpochSeconds(now_s + RETIRE_EVERY_S)
        rows = tx.execute(select(SHARDS.c.number, SHARDS.c.last_not_after).order_by(SHARDS.c.number)).all()
        # The newest two take certificates (ca/recorder/issuing.py), and a shard's number is never used again.
        closed = rows[:-2]
        moment = moment_of(now_s)
        retired = [row.number for row in closed if is_retired(moment_of(row.last_not_after), moment)]
        for shard in retired:
            tx.execute(delete(CRLS).where(CRLS.c.shard == shard))
            tx.execute(delete(SHARDS).where(SHARDS.c.number == shard))
            self._entries.pop(shard, None)
            self._dirty.discard(shard)

    def _look_for_lost(self, tx: Connection, now_s: EpochSeconds) -> None:
        """Forget lists after some seconds. One that has no signature in the store by then is made anew, under
        the next number.
        """
        late = [key for key, unsigned in self._unsigned.items() if now_s - unsigned.since_s > LOST_AFTER_S]
        for shard, number in late:
            del self._unsigned[shard, number]
            lost = (CRLS.c.shard == shard) & (CRLS.c.signed_number < number)
            self._dirty |= set(tx.execute(select(CRLS.c.shard).where(lost)).scalars())

    def _waiting(self, tx: Connection, now_s: EpochSeconds) -> list[CRLRow]:
        """The lists that are due, the complete one (-1) last."""
        columns = [CRLS.c[name] for name in ("shard", "number", "through", "this_update", "refresh_at")]
        due = or_(CRLS.c.refresh_at <= now_s, CRLS.c.shard.in_(sorted(self._dirty)))
        rows = [
            CRLRow(**found._mapping)  # noqa: SLF001 - SQLAlchemy's public name for it
            for found in tx.execute(select(*columns).where(due).order_by(CRLS.c.shard.desc()))
        ]
        # An operator may revoke a certificate that expired long ago. Its shard has retired, and nobody waits
        # for that list.
        self._dirty &= {row.shard for row in rows}
        return rows

    def _list(self, tx: Connection, row: CRLRow, now_s: EpochSeconds) -> tuple[PublishCRL, bytes]:
        """A shard's next list: the entries kept, and the feed's new ones."""
        entries = self._entries.setdefault(row.shard, _Entries())
        columns = (REVOCATIONS.c.not_after, REVOCATIONS.c.crl_entry)
        # After a restart nothing is kept and `through` is 0: then this reads all of the shard that is still
        # to be listed, by the index revocations_by_shard.
        new = select(*columns).where(
            REVOCATIONS.c.n > entries.through,
            REVOCATIONS.c.n <= self._seen,
            REVOCATIONS.c.not_after + KEPT_S >= now_s,
        )
        if row.shard != COMPLETE:
            new = new.where(REVOCATIONS.c.shard == row.shard)
        found = tx.execute(new.order_by(REVOCATIONS.c.n))
        entries.kept += [(not_after + KEPT_S, entry) for not_after, entry in found]
        entries.kept = [each for each in entries.kept if each[0] >= now_s]
        entries.through = self._seen
        this_update = moment_of(now_s)
        tbs = build_tbs_cert_list(
            self._issuer,
            (entry for _, entry in entries.kept),
            crl_number=row.number + 1,
            this_update=this_update,
            next_update=this_update + VALIDITY,
            shard_url=None if row.shard == COMPLETE else f"{self._crl_base_url}{row.shard}.crl",
        )
        item = PublishCRL(
            shard=row.shard,
            number=row.number + 1,
            this_update=now_s,
            revoked=len(entries.kept),
            tbs_digest=hashlib.sha256(tbs).digest(),
        )
        return item, tbs

    def _leave_out(self, tx: Connection, row: CRLRow, now_s: EpochSeconds, size_bytes: int) -> None:
        """Go on without a complete list that no frame can carry; `through` still says how far shards are."""
        extra = {"size_bytes": size_bytes, "limit_bytes": MAX_LIST_BYTES}
        _log.warning("complete-list-too-large", extra=extra)
        store_crl(tx, replace(row, through=self._seen, refresh_at=EpochSeconds(now_s + REFRESH_S)))
        self._dirty.discard(COMPLETE)


def _is_of_this_second(row: CRLRow, now_s: EpochSeconds) -> bool:
    return row.this_update is not None and row.this_update >= now_s


def _shards_of(items: list[PublishCRL]) -> set[int]:
    return {item.shard for item in items}
