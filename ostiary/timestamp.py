"""Moments as the protocols and the stores keep them: whole seconds since 1970-01-01T00:00:00Z.

Rules:
- Seconds, because X.509 has no finer time (RFC 5280 sections 4.1.2.5.1 and 4.1.2.5.2 forbid fractions), and
  POSIX's, which know no leap seconds.
- A fraction is cut off, never rounded: what begins at 12:00:00.9 must not seem to begin in the future.
- The ledger's entries have milliseconds, as RFC 6962 section 3.2 counts; those are no `EpochSeconds`.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final, NewType

EpochSeconds = NewType("EpochSeconds", int)

_EPOCH: Final = datetime.fromtimestamp(0, UTC)
_SECOND: Final = timedelta(seconds=1)


def epoch_seconds(moment: datetime) -> EpochSeconds:
    """The second that an aware moment lies in."""
    # Not int(timestamp()): a float has 53 bits, and rounds the last microseconds of a far second up.
    return EpochSeconds((moment - _EPOCH) // _SECOND)


def moment_of(seconds: EpochSeconds) -> datetime:
    """The beginning of a second, UTC."""
    return datetime.fromtimestamp(seconds, UTC)
