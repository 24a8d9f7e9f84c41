"""Rows from the store and back: what a batch names is read, and what it changed is written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select, update

from ca.recorder.storing import load, store
from ca.store.rows import CertificateRow, TokenRow
from ca.store.tables import CERTIFICATES, REVOCATIONS, TOKENS
from tests.support.ca_decisions import TOKEN, key
from tests.support.ca_recorder import RecorderOnStore, recorder_on_store


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[RecorderOnStore]:
    with recorder_on_store(tmp_path) as made:
        yield made


def test_descendants_are_read_from_the_store_level_by_level(recorder: RecorderOnStore) -> None:
    serial = parent = recorder.issue(TOKEN)
    for number, letter in enumerate("bcd"):
        child = recorder.issue(letter * 16, number)
        with recorder.engine.begin() as tx:
            values = {"parent": parent, "parent_lineage": parent}
            tx.execute(update(CERTIFICATES).where(CERTIFICATES.c.serial == child).values(values))
        parent = child
    other = recorder.issue("e" * 16, 9)
    rulings = recorder.do(recorder.items.revoke(serial, "keyCompromise"))
    assert [type(r.item).__name__ for r in rulings] == ["Revoke"] + ["RevokeDescendant"] * 3
    states = {row.serial: row.status for row in recorder.rows(CERTIFICATES)}
    assert [serial for serial, state in states.items() if state == "active"] == [other]


def test_what_was_decided_is_read_back_as_it_was(recorder: RecorderOnStore) -> None:
    """Each row of memory is a row of the store, with the same values in every column."""
    item = recorder.items.redeem(spki_digest=key(4))
    recorder.do(recorder.items.mint(), item)
    with recorder.engine.begin() as tx:
        rows = load(tx, [recorder.items.redeem()], now_s=recorder.items.now_s)
        certificates = tx.execute(select(CERTIFICATES)).mappings().all()
        tokens = tx.execute(select(TOKENS)).mappings().all()
    assert list(rows.tokens.values()) == [TokenRow(**row) for row in tokens]
    assert list(rows.certificates.values()) == [CertificateRow(**row) for row in certificates]
    bought = rows.certificates[item.certificate.serial]
    assert (bought.parent, bought.revoked_at, bought.reason, bought.token_id) == (None, None, None, TOKEN)


def test_a_batch_reads_what_its_items_name_and_nothing_else(recorder: RecorderOnStore) -> None:
    first = recorder.issue(TOKEN)
    second = recorder.issue("b" * 16, 2)
    with recorder.engine.begin() as tx:
        rows = load(tx, [recorder.items.revoke(second)], now_s=recorder.items.now_s)
    assert set(rows.certificates) == {second}
    assert not rows.tokens
    assert first not in rows.certificates


def test_expired_relatives_are_not_read(recorder: RecorderOnStore) -> None:
    serial = recorder.issue(TOKEN)
    row = recorder.rows(CERTIFICATES)[0]
    recorder.wait(3600)
    renewal = recorder.items.renew(CertificateRow(**row._mapping), number=2, shard=1)
    assert recorder.do(renewal)[0].verdict.decision == "authorized"
    recorder.wait(7201)
    with recorder.engine.begin() as tx:
        rows = load(tx, [recorder.items.revoke(serial)], now_s=recorder.items.now_s)
    # Named itself, so it is there; its renewal has expired and is of no lineage's present.
    assert set(rows.certificates) == {serial}


def test_rows_that_did_not_change_are_not_written(recorder: RecorderOnStore) -> None:
    serial = recorder.issue(TOKEN)
    with recorder.engine.begin() as tx:
        rows = load(tx, [recorder.items.revoke(serial)], now_s=recorder.items.now_s)
        tx.execute(update(CERTIFICATES).values(reason="unspecified"))
        store(tx, rows)
    assert recorder.rows(CERTIFICATES)[0].reason == "unspecified"
    assert not recorder.rows(REVOCATIONS)
