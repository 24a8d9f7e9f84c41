"""A stopped clock for real processes: put this folder on PYTHONPATH and the moment (Unix seconds) into
OSTIARY_TEST_CLOCK_S.

Published vectors are of a moment years ago, and the keyholder asks its own clock, as it must; so the clock of
the whole process is stopped there, from before the first import. CLOCK_MONOTONIC goes on: deadlines are real.
OpenSSL asks the kernel and is not deceived: the test's certificates are valid all the time. (libfaketime
0.9.10 was tried: with it, Python's sleep fails with EINVAL.)
"""

from __future__ import annotations

import datetime as dt
import os
import time

if "OSTIARY_TEST_CLOCK_S" in os.environ:
    NOW_S = int(os.environ["OSTIARY_TEST_CLOCK_S"])

    class StoppedDatetime(dt.datetime):
        """`now` is always the same."""

        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> StoppedDatetime:
            return cls.fromtimestamp(NOW_S, tz)

    dt.datetime = StoppedDatetime  # type: ignore[misc]
    time.time = lambda: float(NOW_S)
    time.time_ns = lambda: NOW_S * 1_000_000_000
