"""Putting a certificate into the rows: the rules for every certificate, whoever asked for it.

Rules:
- The serial number is new, the certificate begins now, and its CRL shard is the open one, or the one that has
  just closed.
- A certificate is what its `Prepared` says; a row adds its place in its lineage.
- The same key for the same act within RETRY_S means a lost answer: the same certificate again (`again`),
  never a second one.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Final

from ca.certificates.profile import BACKDATE
from ca.certificates.shards import Shard, ShardNumber, current_shard, first_shard, is_admitted, with_one_more
from ca.items import Prepared, Resign
from ca.recorder.decision import Decision
from ca.recorder.rules import forbidden
from ca.store.rows import CertificateRow, CRLRow, Rows, ShardRow, joined
from ostiary.timestamp import EpochSeconds, epoch_seconds, moment_of

RETRY_S: Final = 600
"""For ten minutes a lost answer costs nothing: longer than a client's retries take, shorter than a token's
usual life.
"""
RESIGN_S: Final = 180
"""How long after its record a certificate can still be signed: the keyholder takes a notBefore within five
minutes (CLOCK_TOLERANCE in ca/keyholder/certificate_guard.py), and notBefore is backdated by one. A minute is
for clocks.
"""
_LATENESS_S: Final = 120
"""How long an item may have waited since its certificate was planned."""
# Of clocks of hosts whose fronts share one recorder.
_SKEW: Final = timedelta(seconds=60)
_BACKDATE_S: Final = int(BACKDATE.total_seconds())


def check_issuable(rows: Rows, prepared: Prepared, *, now_s: EpochSeconds, max_lifetime_s: int) -> None:
    """Check the rules that every new certificate must keep; raises Forbidden.

    1. Its serial number is not taken.
    2. It begins now.
    3. It ends in time.
    4. Its CRL shard takes one more.
    """
    # 1. `rows` has the certificate of that serial number if there is one: loading asks for it.
    if prepared.serial in rows.certificates:
        raise forbidden(
            "certificate-serial-taken", f"certificate {prepared.serial} exists already; prepare it again"
        )
    # 2.
    planned_at = prepared.not_before + _BACKDATE_S
    if not now_s - _LATENESS_S <= planned_at <= now_s + 1:
        raise forbidden("certificate-times", "not_before is outside the accepted window; retry")
    # 3.
    if not 0 < prepared.not_after - planned_at <= max_lifetime_s:
        raise forbidden(
            "certificate-lifetime",
            f"the lifetime is {prepared.not_after - planned_at} s; at most {max_lifetime_s} s are allowed",
        )
    # 4.
    _shard_for(rows, prepared.shard, now_s)


def issue(rows: Rows, row: CertificateRow) -> None:
    """Add a checked certificate and count it in its shard."""
    shard = _shard_for(rows, row.shard, row.issued_at)
    counted = with_one_more(shard, moment_of(row.issued_at))
    known = rows.shards.get(row.shard)
    rows.replace_shard(
        ShardRow(
            number=row.shard,
            opened_at=epoch_seconds(counted.opened_at),
            count=counted.count,
            last_not_after=max(row.not_after, known.last_not_after) if known else row.not_after,
        )
    )
    if row.shard not in rows.crls and known is None:
        # Due at once: a verifier that checks CRLs refuses a certificate whose list it can't find, even an
        # empty one.
        rows.replace_crl(
            CRLRow(shard=row.shard, number=0, through=0, this_update=None, refresh_at=row.issued_at)
        )
    rows.add_certificate(row)


def first_certificate(prepared: Prepared, *, now_s: EpochSeconds, lifetime_s: int) -> CertificateRow:
    """The row that begins a lineage: active by being issued, without ancestors. The caller replaces what
    differs.
    """
    return CertificateRow(
        serial=prepared.serial,
        lineage=prepared.serial,
        generation=1,
        status="active",
        stopped=False,
        bootstrap=False,
        deadline=None,
        subsystem=prepared.subsystem,
        node=prepared.node,
        agent=prepared.agent,
        capabilities=joined(prepared.capabilities),
        granted=joined(prepared.capabilities),
        ceiling=None,
        depth=0,
        parent=None,
        parent_lineage=None,
        token_id=None,
        address=None,
        endpoints=joined(prepared.endpoints),
        lifetime_s=lifetime_s,
        issued_at=now_s,
        not_before=EpochSeconds(prepared.not_before),
        not_after=EpochSeconds(prepared.not_after),
        shard=prepared.shard,
        spki_digest=prepared.spki_digest,
        activated_at=now_s,
        activated_by="issue",
        revoked_at=None,
        reason=None,
        tbs=prepared.tbs,
        signature=None,
    )


def next_certificate(
    previous: CertificateRow, prepared: Prepared, *, generation: int, now_s: EpochSeconds
) -> CertificateRow:
    """The row of a renewal: pending until its key is used; what the lineage may do stays."""
    return replace(
        first_certificate(prepared, now_s=now_s, lifetime_s=previous.lifetime_s),
        lineage=previous.lineage,
        generation=generation,
        status="pending",
        deadline=EpochSeconds(prepared.not_after),
        granted=previous.granted,
        ceiling=previous.ceiling,
        depth=previous.depth,
        parent=previous.parent,
        parent_lineage=previous.parent_lineage,
        token_id=previous.token_id,
        address=previous.address,
        activated_at=None,
        activated_by=None,
    )


def is_retry(row: CertificateRow, spki_digest: bytes, now_s: EpochSeconds) -> bool:
    """Whether a request for that key is a repeated one whose answer was lost."""
    return row.spki_digest == spki_digest and now_s - row.issued_at <= RETRY_S


def again(row: CertificateRow, now_s: EpochSeconds) -> Decision:
    """Decide to give the same certificate once more: with its stored signature or, while the keyholder makes
    one, a new signature over the same bytes.
    """
    # No signature after that time means that the keyholder was away; the item was recorded and is lost.
    if row.signature is None and now_s - row.issued_at > RESIGN_S:
        raise forbidden(
            "token-answer-lost", f"the signature of certificate {row.serial} was lost; {_way_out(row)}"
        )
    return Decision(
        item=Resign(certificate=prepared_of(row)),
        attachment=b"" if row.signature is None else None,
        known_output=row.signature or b"",
        substitute=row.tbs,
    )


def _way_out(row: CertificateRow) -> str:
    if row.generation > 1:
        return "renew again, with another key"
    return "ask for another agent" if row.token_id is None else "make a new token"


def prepared_of(row: CertificateRow) -> Prepared:
    """The `Prepared` of a recorded certificate, as its first entry had it."""
    return Prepared(
        serial=row.serial,
        subsystem=row.subsystem,
        node=row.node,
        agent=row.agent,
        capabilities=tuple(row.capabilities.split()),
        endpoints=tuple(row.endpoints.split()),
        not_before=row.not_before,
        not_after=row.not_after,
        shard=row.shard,
        spki_digest=row.spki_digest,
        tbs=row.tbs,
    )


def _shard_for(rows: Rows, number: int, now_s: EpochSeconds) -> Shard:
    """The shard as it is before one more certificate; Forbidden where it takes none."""
    # Loading reads the newest two shards: the open one, and the one that late plans may still name.
    newest = max(rows.shards, default=0)
    known = rows.shards.get(number)
    if known is not None and number >= newest - 1:
        shard = Shard(number=ShardNumber(number), opened_at=moment_of(known.opened_at), count=known.count)
        if is_admitted(shard):
            return shard
    elif number == newest + 1 and _may_open_after(rows.shards.get(newest), now_s):
        return replace(first_shard(moment_of(now_s)), number=ShardNumber(number))
    raise forbidden("certificate-shard", f"CRL shard {number} takes no more certificates; prepare it again")


def _may_open_after(newest: ShardRow | None, now_s: EpochSeconds) -> bool:
    if newest is None:
        return True
    shard = Shard(
        number=ShardNumber(newest.number), opened_at=moment_of(newest.opened_at), count=newest.count
    )
    # The front may have decided with a clock that is ahead.
    return current_shard(shard, moment_of(now_s) + _SKEW).number > newest.number
