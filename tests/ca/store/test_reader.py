"""What the network side reads: committed rows by key, and nothing it could write."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from sqlalchemy import text, update
from sqlalchemy.exc import SQLAlchemyError

from ca.certificates.crl import ReasonCode
from ca.certificates.ocsp import Good, Revoked
from ca.certificates.shards import CLOSE_AT, current_shard, first_shard
from ca.items import COMPLETE
from ca.store.reader import MAX_REVOCATIONS, StoreReader
from ca.store.rows import CertificateRow
from ca.store.tables import SHARDS
from ostiary.errors import Busy
from ostiary.store.database import open_for_reading, sqlite_url
from ostiary.timestamp import moment_of
from tests.support.ca_decisions import TOKEN, key
from tests.support.ca_recorder import RecorderOnStore, recorder_on_store


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[RecorderOnStore]:
    with recorder_on_store(tmp_path) as made:
        yield made


@pytest.fixture
def reader(recorder: RecorderOnStore, tmp_path: Path) -> Iterator[StoreReader]:
    engine = open_for_reading(sqlite_url(tmp_path / "store.sqlite"))
    yield StoreReader(engine)
    engine.dispose()


def fill_shard(recorder: RecorderOnStore) -> None:
    with recorder.engine.begin() as tx:
        tx.execute(update(SHARDS).values(count=CLOSE_AT))


def test_a_token_and_a_certificate_are_found_by_their_names(
    recorder: RecorderOnStore, reader: StoreReader
) -> None:
    serial = recorder.issue(TOKEN)
    token, certificate = reader.token(TOKEN), reader.certificate(serial)
    assert token is not None
    assert isinstance(certificate, CertificateRow)
    assert (token.status, token.spent_serial) == ("spent", serial)
    assert (certificate.token_id, certificate.parent, certificate.revoked_at) == (TOKEN, None, None)
    assert reader.token("b" * 16) is None
    assert reader.certificate("77") is None


def test_statuses_are_of_issued_certificates_only(recorder: RecorderOnStore, reader: StoreReader) -> None:
    good, bad = recorder.issue(TOKEN), recorder.issue("b" * 16, 2)
    recorder.do(recorder.items.revoke(bad, "keyCompromise"))
    assert reader.statuses([good, bad, "77"]) == {
        good: Good(),
        bad: Revoked(revoked_at=moment_of(recorder.items.now_s), reason=ReasonCode.keyCompromise),
    }


def test_the_feed_is_read_in_order_from_where_one_is(recorder: RecorderOnStore, reader: StoreReader) -> None:
    assert (reader.last_revocation(), reader.revocations_since(0)) == (0, [])
    serials = [recorder.issue(letter * 16, number) for number, letter in enumerate("abc")]
    recorder.do(*(recorder.items.revoke(serial) for serial in serials))
    assert reader.last_revocation() == 3
    assert [(step.n, step.serial) for step in reader.revocations_since(1)] == [
        (2, serials[1]),
        (3, serials[2]),
    ]


def test_the_feed_comes_in_pages(recorder: RecorderOnStore, reader: StoreReader) -> None:
    with recorder.engine.begin() as tx:
        many = range(1, MAX_REVOCATIONS + 2)
        rows = [{"n": n, "s": b"%d" % n} for n in many]
        tx.execute(text("INSERT INTO revocations VALUES (:n, :s, 1, 1, 'unspecified', 1, x'')"), rows)
    assert [step.n for step in reader.revocations_since(0)] == list(many)[:-1]
    assert [step.n for step in reader.revocations_since(MAX_REVOCATIONS)] == [MAX_REVOCATIONS + 1]


def test_the_open_shard_is_the_newest(recorder: RecorderOnStore, reader: StoreReader) -> None:
    now = moment_of(recorder.items.now_s)
    assert reader.open_shard(now) == first_shard(now)
    recorder.issue(TOKEN)
    fill_shard(recorder)
    opened = reader.open_shard(now)
    assert (opened.number, opened.count) == (1, CLOSE_AT)
    assert current_shard(opened, now).number == 2


def test_only_signed_lists_are_given_out(recorder: RecorderOnStore, reader: StoreReader) -> None:
    recorder.issue(TOKEN, key(1)[0])
    due = recorder.due()
    recorder.decide(*due)
    assert reader.crl_numbers() == {}
    assert reader.crls([COMPLETE, 1]) == {}
    recorder.wait(10)
    recorder.publish()
    recorder.wait(1)
    recorder.publish()
    numbers = reader.crl_numbers()
    assert numbers.keys() == {COMPLETE, 1}
    found = reader.crls([1, COMPLETE, 7])
    assert {shard: stored.number for shard, stored in found.items()} == numbers
    crl = x509.load_der_x509_crl(found[1].der)
    assert crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number == numbers[1]


def test_a_reader_can_not_write(reader: StoreReader) -> None:
    with pytest.raises(SQLAlchemyError), reader.engine.begin() as tx:
        tx.execute(text("DELETE FROM tokens"))


def test_a_store_that_is_gone_is_busy(reader: StoreReader, tmp_path: Path) -> None:
    (tmp_path / "store.sqlite").rename(tmp_path / "gone")
    reader.engine.dispose()
    with pytest.raises(Busy):
        reader.last_revocation()
