"""Shards: never above their capacity, in order of issue, dropped whole."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import pytest

from ca.certificates.crl import ReasonCode, build_entry, build_tbs_cert_list
from ca.certificates.shards import (
    CAPACITY,
    CLOSE_AT,
    MAX_AGE,
    current_shard,
    first_shard,
    is_admitted,
    is_retired,
    with_one_more,
)
from ca.keyholder.certificate_guard import MAX_SERIAL_BITS, MAX_SHARD
from ca.recorder.publishing import MAX_LIST_BYTES
from tests.support.ca_authority import CONFIG, AuthorityForTests
from tests.support.certificates import NOW


def test_a_shard_is_closed_before_it_is_full() -> None:
    shard = dataclasses.replace(first_shard(NOW), count=CLOSE_AT)
    assert is_admitted(shard)
    assert current_shard(shard, NOW).number == shard.number + 1
    full = dataclasses.replace(shard, count=CAPACITY)
    assert not is_admitted(full)
    with pytest.raises(AssertionError):
        with_one_more(full, NOW)


def test_the_list_of_a_shard_that_was_revoked_whole_fits_into_one_frame_to_the_keyholder() -> None:
    longest = (1 << MAX_SERIAL_BITS) - 1
    entry = build_entry(serial_number=longest, revoked_at=NOW, reason=ReasonCode.keyCompromise)
    tbs = build_tbs_cert_list(
        AuthorityForTests().crl_issuer,
        [entry] * CAPACITY,
        crl_number=1 << 62,
        this_update=NOW,
        next_update=NOW + timedelta(days=1),
        shard_url=f"{CONFIG.crl_base_url}{MAX_SHARD}.crl",
    )
    assert len(tbs) <= MAX_LIST_BYTES


def test_an_old_shard_is_closed_and_an_empty_one_is_not() -> None:
    shard = first_shard(NOW)
    later = NOW + 10 * MAX_AGE
    assert current_shard(shard, later) == shard
    used = with_one_more(shard, later)
    assert used.opened_at == later
    assert current_shard(used, later + MAX_AGE / 2) == used
    assert current_shard(used, later + MAX_AGE).number == 2


def test_a_shard_outlives_its_last_certificate_by_a_day() -> None:
    assert not is_retired(NOW, NOW + timedelta(days=1))
    assert is_retired(NOW, NOW + timedelta(days=1, seconds=1))
