"""Rules for every certificate, whoever asked for it: a new serial number, now, in time, in a shard that is
open.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ca.certificates.shards import CAPACITY, CLOSE_AT, MAX_AGE
from ca.items import Resign
from ca.recorder.issuing import (
    RESIGN_S,
    RETRY_S,
    again,
    check_issuable,
    first_certificate,
    is_retry,
    issue,
    next_certificate,
    prepared_of,
)
from ca.store.rows import ShardRow
from ostiary.errors import Forbidden
from ostiary.timestamp import EpochSeconds
from tests.support.ca_decisions import RecorderInMemory, key

HOUR_S = int(MAX_AGE.total_seconds())


@pytest.fixture
def recorder() -> RecorderInMemory:
    return RecorderInMemory()


def rule_of(recorder: RecorderInMemory, **changed: Any) -> str:
    try:
        check_issuable(recorder.rows, recorder.prepared(**changed), now_s=recorder.now_s, max_lifetime_s=7200)
    except Forbidden as exc:
        return exc.rule
    return ""


def open_shards(recorder: RecorderInMemory, *counts: int) -> None:
    for number, count in enumerate(counts, 1):
        recorder.rows.shards[number] = ShardRow(
            number=number, opened_at=recorder.now_s, count=count, last_not_after=recorder.now_s
        )


@pytest.mark.parametrize(
    ("late_s", "rule"),
    [(-2, "certificate-times"), (-1, ""), (0, ""), (120, ""), (121, "certificate-times")],
)
def test_a_certificate_begins_now(recorder: RecorderInMemory, late_s: int, rule: str) -> None:
    not_before = recorder.now_s - 60 - late_s
    assert rule_of(recorder, not_before=not_before, not_after=not_before + 3600) == rule


@pytest.mark.parametrize(
    ("lifetime_s", "rule"), [(0, "certificate-lifetime"), (1, ""), (7200, ""), (7201, "certificate-lifetime")]
)
def test_a_certificate_ends_in_time(recorder: RecorderInMemory, lifetime_s: int, rule: str) -> None:
    assert rule_of(recorder, lifetime_s=lifetime_s) == rule


def test_a_serial_number_is_given_once(recorder: RecorderInMemory) -> None:
    taken = recorder.enrolled().serial
    assert rule_of(recorder, serial=taken) == "certificate-serial-taken"


@pytest.mark.parametrize(
    ("counts", "shard", "rule"),
    [
        ((), 1, ""),
        ((), 2, "certificate-shard"),
        ((CAPACITY - 1,), 1, ""),
        ((CAPACITY,), 1, "certificate-shard"),
        ((CLOSE_AT - 1,), 2, "certificate-shard"),
        ((CLOSE_AT,), 2, ""),
        ((CLOSE_AT, 5), 1, ""),  # a late plan for the shard that has just closed
        ((CLOSE_AT, CLOSE_AT, 5), 1, "certificate-shard"),
    ],
)
def test_a_shard_takes_certificates_while_it_is_open(
    recorder: RecorderInMemory, counts: tuple[int, ...], shard: int, rule: str
) -> None:
    open_shards(recorder, *counts)
    assert rule_of(recorder, shard=shard) == rule


def test_the_next_shard_opens_when_the_newest_is_old_by_a_clock_that_may_be_ahead(
    recorder: RecorderInMemory,
) -> None:
    open_shards(recorder, 1)
    recorder.wait(HOUR_S - 61)
    assert rule_of(recorder, shard=2) == "certificate-shard"
    recorder.wait(1)
    assert rule_of(recorder, shard=2) == ""


def test_issuing_counts_in_the_shard_and_has_its_first_list_due_at_once(recorder: RecorderInMemory) -> None:
    rows = [first_certificate(recorder.prepared(), now_s=recorder.now_s, lifetime_s=7200) for _ in range(2)]
    for number, row in enumerate(rows, 1):
        issue(recorder.rows, row)
        assert recorder.rows.shards[1].count == number
    assert recorder.rows.shards[1].last_not_after == rows[0].not_after
    crl = recorder.rows.crls[1]
    assert (crl.number, crl.this_update, crl.refresh_at) == (0, None, recorder.now_s)


def test_a_renewal_keeps_its_lineage_and_waits_for_its_use(recorder: RecorderInMemory) -> None:
    first = replace(recorder.enrolled(), parent="aa", parent_lineage="bb", depth=3, ceiling="x:y")
    row = next_certificate(first, recorder.prepared(), generation=2, now_s=recorder.now_s)
    assert (row.status, row.generation, row.lineage) == ("pending", 2, first.lineage)
    assert (row.activated_at, row.activated_by, row.deadline) == (None, None, row.not_after)
    kept = ("granted", "ceiling", "depth", "parent", "parent_lineage", "token_id", "address", "lifetime_s")
    assert [getattr(row, name) for name in kept] == [getattr(first, name) for name in kept]


def test_the_same_key_is_a_retry_for_ten_minutes(recorder: RecorderInMemory) -> None:
    row = recorder.enrolled()
    last = EpochSeconds(row.issued_at + RETRY_S)
    assert is_retry(row, key(1), last)
    assert not is_retry(row, key(1), EpochSeconds(last + 1))
    assert not is_retry(row, key(2), row.issued_at)


def test_a_lost_answer_is_given_again_with_the_same_bytes(recorder: RecorderInMemory) -> None:
    unsigned = recorder.enrolled()
    late = EpochSeconds(unsigned.issued_at + RESIGN_S)
    to_sign = again(unsigned, late)
    assert (to_sign.item, to_sign.attachment) == (Resign(certificate=prepared_of(unsigned)), b"")
    assert to_sign.substitute == unsigned.tbs
    signed = again(replace(unsigned, signature=b"signature"), EpochSeconds(late + 1))
    assert (signed.attachment, signed.known_output) == (None, b"signature")


@pytest.mark.parametrize(
    ("changed", "advice"),
    [
        ({}, "make a new token"),
        ({"token_id": None}, "ask for another agent"),
        ({"generation": 2}, "renew again, with another key"),
    ],
)
def test_a_signature_that_can_not_be_made_any_more_is_said_with_the_way_out(
    recorder: RecorderInMemory, changed: dict[str, Any], advice: str
) -> None:
    row = replace(recorder.enrolled(), **changed)
    with pytest.raises(Forbidden, match=advice) as refused:
        again(row, EpochSeconds(row.issued_at + RESIGN_S + 1))
    assert refused.value.rule == "token-answer-lost"


def test_what_a_row_says_is_what_was_prepared(recorder: RecorderInMemory) -> None:
    prepared = recorder.prepared(endpoints=("https+tcp://a.n1.nodes.shop.example:1",))
    assert prepared_of(first_certificate(prepared, now_s=recorder.now_s, lifetime_s=7200)) == prepared
