"""Which CRL a certificate belongs to: shards filled in order of issue, at most 7,000 certificates each.

Rules:
- A certificate names its shard for life (its CRL distribution point), so a shard is chosen before signing.
- The recorder counts. Fronts read the open shard from the store and may be late, so a shard closes to new
  plans (CLOSE_AT, or MAX_AGE after its first certificate) before it is full (CAPACITY): late plans still fit.
- A shard's CRL is needed until the last of its certificates has expired; then it is dropped whole.

Why 7,000: an entry with a reason has 53 bytes, and the list of a shard whose certificates are all revoked
must fit into one frame to the keyholder where SO_SNDBUF can't be raised (425,952 bytes; MAX_LIST_BYTES in
ca/recorder/publishing.py).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, NewType

ShardNumber = NewType("ShardNumber", int)

CAPACITY: Final = 7_000
# The 1,000 between are half a second at 2,000 certificates a second; a front remembers the open shard for 0.1
# s (SHARD_MEMORY_S in ca/front/store_reads.py).
CLOSE_AT: Final = 6_000
# A young shard's certificates expire together, so its list can be dropped soon after.
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
    # An empty shard has no age: it runs from the first certificate.
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

    RFC 5280 section 3.3 keeps an entry until it has been on one regular list issued after the certificate
    expired. A list is refreshed twice a day, so a day is added.
    """
    return now > last_not_after + timedelta(days=1)
