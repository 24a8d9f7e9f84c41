"""Which CRL a certificate belongs to: shards filled in order of issue, at most 7,000 certificates each.

Rules:
- A certificate names its shard for life (its CRL distribution point), so a shard is chosen before signing.
- The recorder counts. Fronts learn the open shard from its answers and may be late, so that a shard closes to
  new plans (CLOSE_AT, or MAX_AGE after its first certificate) before it is full (CAPACITY): late ones still
  fit.
- A shard's CRL is needed until the last of its certificates has expired; then it is dropped whole.

Why 7,000: an entry with a reason has 53 bytes, and the list of a shard that is revoked whole must fit into
one frame to the keyholder where SO_SNDBUF can't be raised (425,952 bytes; MAX_LIST_BYTES in
ca/recorder/publishing.py).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, NewType

ShardNumber = NewType("ShardNumber", int)

CAPACITY: Final = 7_000
CLOSE_AT: Final = 6_000
MAX_AGE: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """A shard that certificates are still put into."""

    number: ShardNumber
    opened_at: datetime
    count: int


def first_shard(now: datetime) -> Shard:
    """Open shard 1."""
    return Shard(number=ShardNumber(1), opened_at=now, count=0)


def current_shard(shard: Shard, now: datetime) -> Shard:
    """Return the shard for new plans: this one, or the next when it is full enough or old."""
    if shard.count < CLOSE_AT and (shard.count == 0 or now - shard.opened_at < MAX_AGE):
        return shard
    return Shard(number=ShardNumber(shard.number + 1), opened_at=now, count=0)


def is_admitted(shard: Shard) -> bool:
    """Return whether one more certificate that was planned for this shard still fits."""
    return shard.count < CAPACITY


def with_one_more(shard: Shard, now: datetime) -> Shard:
    """Count a certificate; the age of a shard runs from its first. AssertionError when it does not fit."""
    if not is_admitted(shard):
        raise AssertionError(f"shard {shard.number} is full")
    return replace(shard, count=shard.count + 1, opened_at=now if shard.count == 0 else shard.opened_at)


def is_retired(last_not_after: datetime, now: datetime) -> bool:
    """Return whether a closed shard's CRL may go, given the last notAfter in it.

    A revoked certificate stays on one CRL issued after it expired (RFC 5280 section 3.3), so a day is added.
    """
    return now > last_not_after + timedelta(days=1)
