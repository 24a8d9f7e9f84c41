"""Rows of certificates that were read a moment ago, for acts that the recorder decides by the rows
themselves.

Rules:
- A row is kept for RECENT_S, the period of the feed of revocations: a revoked or superseded certificate is
  refused by its row that late at most. Nothing tells this cache to forget, so nothing can fail to.
- Only rows of active certificates are kept: a pending one is read every time.
- It reads by the function that it is given, in the front's workers.
- Whoever uses one must leave the decision to the recorder, which reads the row in its transaction.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ca.store.rows import CertificateRow

RECENT_S: Final = 0.1
MAX_ROWS: Final = 1000
_RECENT_NS: Final = int(RECENT_S * 1e9)


class RecentRows:
    """Thread-safe; one per worker. Two threads may read the same row, and keep the later one's."""

    def __init__(
        self, read: Callable[[str], CertificateRow | None], *, monotonic_ns: Callable[[], int]
    ) -> None:
        self._read = read
        self._monotonic_ns = monotonic_ns
        # serial -> (when it was asked for, ns; row)
        self._kept: dict[str, tuple[int, CertificateRow]] = {}

    def certificate(self, serial: str) -> CertificateRow | None:
        """A certificate by its serial number (hex), as it was at most RECENT_S ago."""
        now_ns = self._monotonic_ns()
        kept = self._kept.get(serial)
        if kept is not None and now_ns - kept[0] < _RECENT_NS:
            return kept[1]
        row = self._read(serial)
        if row is None or row.status != "active":
            self._kept.pop(serial, None)
            return row
        # All at once: entries live for a tenth of a second, so there is little to lose and no order to keep.
        if len(self._kept) >= MAX_ROWS:
            self._kept.clear()
        self._kept[serial] = (now_ns, row)
        return row
