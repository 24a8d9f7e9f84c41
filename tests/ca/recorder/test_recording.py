"""The CA's service on a real store: batches see their own changes, and a crash loses nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ca.items import ExpirePending, Resign
from ca.store.tables import CERTIFICATES, REVOCATIONS, SHARDS, TOKENS
from tests.support.ca_decisions import TOKEN, key
from tests.support.ca_recorder import RecorderOnStore, recorder_on_store


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[RecorderOnStore]:
    with recorder_on_store(tmp_path) as made:
        yield made


def test_two_items_for_one_token_in_one_batch_see_each_other(recorder: RecorderOnStore) -> None:
    first, second = recorder.items.redeem(), recorder.items.redeem(spki_digest=key(2))
    rulings = recorder.decide(recorder.items.mint(), first, second)
    verdicts = [(type(r.item).__name__, r.verdict.decision, r.answers) for r in rulings]
    assert verdicts == [
        ("MintToken", "authorized", 0),
        ("Redeem", "authorized", 1),
        ("Redeem", "denied", 2),
        ("Alarm", "authorized", None),
    ]
    assert [row.serial for row in recorder.rows(CERTIFICATES)] == [first.certificate.serial]
    assert [(row.status, row.contested) for row in recorder.rows(TOKENS)] == [("spent", True)]
    assert [(row.number, row.count) for row in recorder.rows(SHARDS)] == [(1, 1)]


def test_the_store_answers_as_the_rows_did(recorder: RecorderOnStore) -> None:
    item = recorder.items.redeem()
    recorder.do(recorder.items.mint(), item)
    same = recorder.decide(recorder.items.redeem())[0]
    assert isinstance(same.item, Resign)
    assert (same.attachment, bool(same.known_output), same.substitute) == (None, True, item.certificate.tbs)
    assert recorder.decide(recorder.items.redeem(spki_digest=key(2)))[0].verdict.rule == "token-spent"
    assert recorder.decide(recorder.items.mint())[0].verdict.rule == "token-taken"


def test_a_serial_number_of_the_store_is_taken(recorder: RecorderOnStore) -> None:
    serial = recorder.issue(TOKEN)
    recorder.do(recorder.items.mint(token_id="b" * 16))
    again = recorder.items.redeem(token_id="b" * 16, serial=serial, shard=1)
    assert recorder.decide(again)[0].verdict.rule == "certificate-serial-taken"


def test_what_was_not_proven_in_time_is_due(recorder: RecorderOnStore) -> None:
    boot = {
        "subsystem": "node-controller",
        "bootstrap": True,
        "capabilities": (),
        "address": "192.0.2.1:7443",
    }
    item = recorder.items.redeem(subsystem="node-controller", capabilities=())
    recorder.do(recorder.items.mint(**boot), item)
    recorder.wait(599)
    assert not [each for each in recorder.due() if isinstance(each, ExpirePending)]
    recorder.wait(1)
    due = [each for each in recorder.due() if isinstance(each, ExpirePending)]
    assert due == [ExpirePending(serial=item.certificate.serial)]
    rulings = recorder.decide(*due)
    assert [(r.verdict.decision, r.answers) for r in rulings] == [("authorized", None)]
    assert recorder.rows(CERTIFICATES)[0].status == "revoked"
    assert recorder.rows(REVOCATIONS)[0].serial == item.certificate.serial


def test_signatures_that_a_crash_lost_are_asked_for_once_at_the_start(recorder: RecorderOnStore) -> None:
    item = recorder.items.redeem()
    recorder.decide(recorder.items.mint(), item)
    recorder.restart()
    due = recorder.due()
    assert due == [Resign(certificate=item.certificate)]
    recorder.do(*due)
    assert recorder.rows(CERTIFICATES)[0].signature is not None
    assert not [each for each in recorder.due() if isinstance(each, Resign)]
