"""Lists follow revocations: in order, growing, and over restarts and lost signatures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ca.items import COMPLETE
from ca.recorder import publishing
from ca.recorder.publishing import LOST_AFTER_S, REFRESH_S
from ca.store.tables import CRLS, REVOCATIONS, SHARDS
from ostiary.recorder.batch import ask
from ostiary.recorder.service import Settled
from tests.support.ca_decisions import TOKEN, key
from tests.support.ca_recorder import CA, RecorderOnStore, recorder_on_store, signature_of


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[RecorderOnStore]:
    with recorder_on_store(tmp_path) as made:
        yield made


def test_lists_are_there_before_anything_is_revoked(recorder: RecorderOnStore) -> None:
    assert recorder.publish() == [(COMPLETE, 1, 0)]
    recorder.issue(TOKEN)
    recorder.wait(1)
    assert recorder.publish() == [(1, 1, 0)]
    assert recorder.crl(1).is_signature_valid(CA.key.public_key())
    assert recorder.publish() == []


def test_a_revocation_is_listed_in_its_shard_then_in_the_complete_list(recorder: RecorderOnStore) -> None:
    serials = [recorder.issue(letter * 16, number) for number, letter in enumerate("abc")]
    recorder.publish()
    recorder.do(recorder.items.revoke(serials[0], "keyCompromise"))
    assert recorder.publish() == []  # thisUpdate has whole seconds
    recorder.wait(1)
    assert recorder.publish() == [(1, 2, 1), (COMPLETE, 2, 1)]
    recorder.do(recorder.items.revoke(serials[1]))
    recorder.wait(1)
    assert recorder.publish() == [(1, 3, 2), (COMPLETE, 3, 2)]
    for shard in (1, COMPLETE):
        found = [entry.serial_number for entry in recorder.crl(shard)]
        assert found == [int(serial, 16) for serial in serials[:2]]
    assert [row.n for row in recorder.rows(REVOCATIONS)] == [1, 2]


def test_this_update_and_number_grow_over_a_restart(recorder: RecorderOnStore) -> None:
    serials = [recorder.issue(letter * 16, number) for number, letter in enumerate("ab")]
    recorder.publish()
    recorder.wait(1)
    recorder.do(recorder.items.revoke(serials[0]))
    recorder.publish()
    before = recorder.crl(1)
    recorder.wait(1)
    recorder.do(recorder.items.revoke(serials[1]))
    recorder.restart()
    assert {shard for shard, _, _ in recorder.publish()} == {1, COMPLETE}
    after = recorder.crl(1)
    assert len(after) == 2
    assert after.last_update_utc > before.last_update_utc


def test_a_list_whose_signature_was_lost_is_made_anew(recorder: RecorderOnStore) -> None:
    serial = recorder.issue(TOKEN)
    recorder.publish()
    recorder.wait(1)
    recorder.do(recorder.items.revoke(serial))
    lost = recorder.due()
    recorder.decide(*lost)
    recorder.wait(LOST_AFTER_S)
    assert recorder.publish() == []
    recorder.wait(1)
    assert (1, 3, 1) in recorder.publish()
    recorder.wait(1)
    recorder.decide(*(recorder.due() or [recorder.items.mint(token_id="b" * 16)]))
    recorder.restart()
    recorder.wait(1)
    recorder.publish()
    assert len(recorder.crl(1)) == 1


def test_lists_are_refreshed_before_they_end_and_forget_what_expired(recorder: RecorderOnStore) -> None:
    serial = recorder.issue(TOKEN)
    recorder.publish()
    recorder.do(recorder.items.revoke(serial))
    recorder.wait(1)
    recorder.publish()
    recorder.wait(REFRESH_S)
    assert recorder.publish() == [(1, 3, 1), (COMPLETE, 3, 1)]
    recorder.wait(REFRESH_S + 7200)
    recorder.wait(REFRESH_S)
    assert recorder.publish() == [(1, 4, 0), (COMPLETE, 4, 0)]


def test_a_turn_that_was_undone_leaves_its_lists_due(recorder: RecorderOnStore) -> None:
    items = recorder.due()

    class Undone(Exception):
        pass

    with pytest.raises(Undone), recorder.engine.begin() as tx:
        recorder.service.decide(tx, [ask(item) for item in items], now_ms=recorder.now_ms)
        raise Undone
    recorder.wait(LOST_AFTER_S + 1)
    assert [shard for shard, _, _ in recorder.publish()] == [COMPLETE]


def test_a_start_whose_first_turn_was_undone_still_has_its_complete_list(recorder: RecorderOnStore) -> None:
    class Undone(Exception):
        pass

    with pytest.raises(Undone), recorder.engine.begin() as tx:
        recorder.service.due(tx, now_ms=recorder.now_ms)
        raise Undone
    assert recorder.publish() == [(COMPLETE, 1, 0)]


def test_a_signature_whose_turn_was_undone_is_stored_with_the_next(recorder: RecorderOnStore) -> None:
    signed = recorder.decide(*recorder.due())
    results = [Settled(item=each.item, index=0, output=signature_of(each)) for each in signed]
    with recorder.engine.connect() as tx:
        recorder.service.settle(tx, results)
        tx.rollback()
    recorder.settle(signed)
    assert recorder.crl(COMPLETE).is_signature_valid(CA.key.public_key())
    recorder.wait(LOST_AFTER_S + 1)
    assert recorder.publish() == []


def test_lists_that_do_not_fit_into_one_batch_follow_in_the_next(
    recorder: RecorderOnStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    serials = [recorder.issue(TOKEN)]
    recorder.wait(3700)
    recorder.do(recorder.items.mint(token_id="b" * 16))
    item = recorder.items.redeem(token_id="b" * 16, shard=2, spki_digest=key(2))
    assert recorder.do(item)[0].verdict.decision == "authorized"
    serials.append(item.certificate.serial)
    recorder.publish()
    recorder.wait(1)
    recorder.do(*(recorder.items.revoke(serial) for serial in serials))
    monkeypatch.setattr(publishing, "MAX_LIST_BYTES", len(recorder.crl(1).tbs_certlist_bytes) + 100)
    assert [recorder.publish() for _ in range(4)] == [[(2, 2, 1)], [(1, 2, 1)], [(COMPLETE, 2, 2)], []]


def test_a_shard_goes_whole_when_its_certificates_are_long_expired(recorder: RecorderOnStore) -> None:
    first = recorder.issue(TOKEN)
    for number in (2, 3):
        recorder.wait(3700)
        recorder.do(recorder.items.mint(token_id="abcdefgh"[number] * 16))
        item = recorder.items.redeem(token_id="abcdefgh"[number] * 16, shard=number, spki_digest=key(number))
        assert recorder.do(item)[0].verdict.decision == "authorized"
    recorder.publish()
    assert [row.number for row in recorder.rows(SHARDS)] == [1, 2, 3]
    recorder.wait(2 * 86400)
    recorder.publish()
    assert [row.number for row in recorder.rows(SHARDS)] == [2, 3]
    assert sorted(row.shard for row in recorder.rows(CRLS)) == [COMPLETE, 2, 3]
    recorder.do(recorder.items.revoke(first))
    recorder.wait(1)
    assert recorder.publish() == [(COMPLETE, 3, 0)]
