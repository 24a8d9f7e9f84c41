"""Seconds since the epoch: back and forth without loss, and fractions cut off."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary.timestamp import EpochSeconds, epoch_seconds, moment_of

# Until 9999-12-31T23:59:59Z, the last moment of X.509 (RFC 5280 section 4.1.2.5).
SECONDS = st.integers(min_value=0, max_value=253_402_300_799).map(EpochSeconds)


@given(seconds=SECONDS)
def test_a_second_is_read_as_it_was_written(seconds: EpochSeconds) -> None:
    assert epoch_seconds(moment_of(seconds)) == seconds
    assert moment_of(seconds).tzinfo is UTC


@given(seconds=SECONDS, microsecond=st.integers(min_value=0, max_value=999_999))
def test_a_fraction_is_cut_off(seconds: EpochSeconds, microsecond: int) -> None:
    assert epoch_seconds(moment_of(seconds).replace(microsecond=microsecond)) == seconds


@pytest.mark.parametrize("hours", [-11, 0, 14])
def test_the_same_moment_in_every_zone_is_the_same_second(hours: int) -> None:
    zone = timezone(timedelta(hours=hours))
    assert epoch_seconds(datetime(2026, 11, 18, 12, tzinfo=UTC).astimezone(zone)) == 1_795_003_200
