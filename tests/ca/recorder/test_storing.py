"""Rows from the store and back: what a batch names is read, and what it changed is written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from ca.recorder.storing import load, store
from ca.store.certificate_columns import read_certificates
from ca.store.rows import CertificateRow, TokenRow
from ca.store.tables import CERTIFICATES, REVOCATIONS, TBS_TEMPLATES, TOKENS
from ca.store.tbs_packing import Templates
from ostiary.recorder.batch import ask
from tests.support.ca_decisions import TOKEN, key
from tests.support.ca_recorder import RecorderOnStore, recorder_at, recorder_on_store
from tests.support.postgres import postgresql

LONG = b"0" + bytes(range(256)) * 3
"""As to-be-signed bytes begin, and long enough to be packed."""


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
        rows = load(tx, [recorder.items.redeem()], Templates(), now_s=recorder.items.now_s)
        certificates = read_certificates(tx, select(CERTIFICATES), Templates())
        tokens = tx.execute(select(TOKENS)).mappings().all()
    assert list(rows.tokens.values()) == [TokenRow(**row) for row in tokens]
    assert list(rows.certificates.values()) == certificates
    bought = rows.certificates[item.certificate.serial]
    assert (bought.parent, bought.revoked_at, bought.reason, bought.token_id) == (None, None, None, TOKEN)


def test_a_batch_reads_what_its_items_name_and_nothing_else(recorder: RecorderOnStore) -> None:
    first = recorder.issue(TOKEN)
    second = recorder.issue("b" * 16, 2)
    with recorder.engine.begin() as tx:
        rows = load(tx, [recorder.items.revoke(second)], Templates(), now_s=recorder.items.now_s)
    assert set(rows.certificates) == {second}
    assert not rows.tokens
    assert first not in rows.certificates


def test_expired_relatives_are_not_read(recorder: RecorderOnStore) -> None:
    serial = recorder.issue(TOKEN)
    (row,) = recorder.certificates()
    recorder.wait(3600)
    renewal = recorder.items.renew(row, number=2, shard=1)
    assert recorder.do(renewal)[0].verdict.decision == "authorized"
    recorder.wait(7201)
    with recorder.engine.begin() as tx:
        rows = load(tx, [recorder.items.revoke(serial)], Templates(), now_s=recorder.items.now_s)
    # Named itself, so it is there; its renewal has expired and is of no lineage's present.
    assert set(rows.certificates) == {serial}


def test_rows_that_did_not_change_are_not_written(recorder: RecorderOnStore) -> None:
    serial = recorder.issue(TOKEN)
    with recorder.engine.begin() as tx:
        rows = load(tx, [recorder.items.revoke(serial)], Templates(), now_s=recorder.items.now_s)
        tx.execute(update(CERTIFICATES).values(reason="unspecified"))
        store(tx, rows, Templates())
    assert recorder.rows(CERTIFICATES)[0].reason == "unspecified"
    assert not recorder.rows(REVOCATIONS)


def test_the_first_of_its_sub_system_in_a_shard_is_the_template_of_the_others(
    recorder: RecorderOnStore,
) -> None:
    serials = [recorder.issue(letter * 16, number) for number, letter in enumerate("abc")]
    ((shard, subsystem, template),) = recorder.rows(TBS_TEMPLATES)
    first, *_ = recorder.certificates()
    assert (shard, subsystem, template) == (first.shard, first.subsystem, first.tbs)
    assert [row.serial for row in recorder.certificates()] == serials
    assert [row.tbs for row in recorder.certificates()] == [b"tbs of " + s.encode() for s in serials]


def test_a_turn_that_is_undone_takes_its_template_with_it(recorder: RecorderOnStore) -> None:
    agents = [recorder.items.new_agent() for _ in range(3)]
    tokens = [letter * 16 for letter in "abc"]
    pairs = list(zip(tokens, agents, strict=True))
    recorder.do(*(recorder.items.mint(token_id=token, agent=agent) for token, agent in pairs))
    redeems = [
        recorder.items.redeem(token_id=token, agent=agent, spki_digest=key(n), shard=1, tbs=LONG + b"%d" % n)
        for n, (token, agent) in enumerate(pairs)
    ]
    with pytest.raises(RuntimeError), recorder.engine.begin() as tx:
        recorder.service.decide(tx, [ask(item) for item in redeems[:2]], now_ms=recorder.now_ms)
        raise RuntimeError("the disk is full")
    assert not recorder.rows(TBS_TEMPLATES)
    for item in reversed(redeems):
        assert recorder.do(item)[0].verdict.decision == "authorized"
    assert recorder.rows(TBS_TEMPLATES)[0].tbs == redeems[-1].certificate.tbs
    read_back = {row.serial: row.tbs for row in recorder.certificates()}
    assert read_back == {item.certificate.serial: item.certificate.tbs for item in redeems}


def test_postgresql_keeps_the_same() -> None:
    with postgresql() as url, recorder_at(url) as recorder:
        manager, controller = (
            _redeemed(recorder, subsystem, capabilities)
            for subsystem, capabilities in (
                ("certificate-manager", ("enroll:node",)),
                ("node-controller", ("spawn:component-harness",)),
            )
        )
        spawns = [
            recorder.items.spawn(manager, controller, asked=("credential:use",), tbs=LONG + b"%d" % number)
            for number in range(3)
        ]
        assert [ruling.verdict.rule for ruling in recorder.do(*spawns)] == [""] * 3
        rows = {row.serial: row for row in recorder.certificates()}
        for item in spawns:
            row = rows[item.certificate.serial]
            assert (row.tbs, row.agent) == (item.certificate.tbs, item.certificate.agent)
            assert (row.lineage, row.parent, row.parent_lineage) == (row.serial, *[controller.serial] * 2)
            assert row.signature is not None
        recorder.wait(3600)
        first = rows[spawns[0].certificate.serial]
        renewal = recorder.items.renew(first, number=9, shard=1)
        assert [ruling.verdict.rule for ruling in recorder.do(renewal)] == [""]
        later = {row.serial: row for row in recorder.certificates()}[renewal.certificate.serial]
        assert (later.lineage, later.generation, later.parent) == (first.serial, 2, controller.serial)
        ended = recorder.do(recorder.items.revoke(controller.serial, "keyCompromise"))
        assert len(ended) == 1 + len(spawns) + 1  # with the renewal
        assert {row.status for row in recorder.certificates()} == {"active", "revoked"}


def _redeemed(recorder: RecorderOnStore, subsystem: str, capabilities: tuple[str, ...]) -> CertificateRow:
    agent, token = recorder.items.new_agent(), subsystem[0] * 16
    names: dict[str, Any] = {"subsystem": subsystem, "capabilities": capabilities, "agent": agent}
    item = recorder.items.redeem(token_id=token, lifetime_s=86400, shard=1, **names)
    recorder.do(recorder.items.mint(token_id=token, lifetime_s=86400, **names), item)
    return next(row for row in recorder.certificates() if row.serial == item.certificate.serial)
