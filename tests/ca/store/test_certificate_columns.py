"""A certificate's row, to its columns and back; and how many bytes it takes with its entry."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import Engine, insert, select, text

from ca.items import Spawn
from ca.store.certificate_columns import columns_of, read_certificates
from ca.store.rows import CertificateRow
from ca.store.tables import CERTIFICATES, LEDGER, METADATA, TBS_TEMPLATES
from ca.store.tbs_packing import Templates
from ostiary.names import parse_agent_id
from ostiary.recorder.batch import Recorder, ask
from ostiary.recorder.ledger_store import LedgerStore
from ostiary.recorder.service import Settled
from ostiary.store.database import open_for_writing, sqlite_url
from ostiary.timestamp import epoch_seconds
from tests.support.ca_authority import AuthorityForTests
from tests.support.ca_decisions import RecorderInMemory
from tests.support.ca_front import new_key
from tests.support.ca_recorder import RecorderOnStore, recorder_on_store, signature_of
from tests.support.certificates import IDENTITY

SPAWNED = RecorderInMemory().enrolled()
CA = AuthorityForTests()


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = open_for_writing(sqlite_url(tmp_path / "store"))
    METADATA.create_all(made)
    yield made
    made.dispose()


def test_a_row_has_its_tables_columns_and_none_where_a_column_may_be_null() -> None:
    columns = {column.name: column.nullable for column in CERTIFICATES.c}
    may_be_none = {each.name: "None" in str(each.type) for each in fields(CertificateRow)}
    # The four that differ are in the module's docstring.
    assert (columns.pop("packed_tbs"), columns.pop("reserved")) == (False, True)
    assert may_be_none.pop("tbs") is False
    assert (columns.pop("lineage"), may_be_none.pop("lineage")) == (True, False)
    assert may_be_none == columns


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"lineage": "ff"},
        {"parent": "0a", "parent_lineage": "0a", "depth": 1, "ceiling": ""},
        {"parent": "0a", "parent_lineage": "0b", "depth": 1, "ceiling": "credential:use"},
        {"serial": "5", "lineage": "5", "agent": "nobody", "tbs": b"", "signature": b"signature"},
        {"status": "revoked", "revoked_at": 1, "reason": "keyCompromise", "deadline": None},
    ],
)
def test_a_row_comes_back_as_it_was(engine: Engine, changed: dict[str, Any]) -> None:
    row = replace(SPAWNED, **changed)
    with engine.begin() as tx:
        template = {"shard": row.shard, "subsystem": row.subsystem, "tbs": b"a template"}
        tx.execute(insert(TBS_TEMPLATES).values(template))
        tx.execute(insert(CERTIFICATES).values(columns_of(row, b"a template")))
    with engine.begin() as tx:
        assert read_certificates(tx, select(CERTIFICATES), Templates()) == [row]


def test_a_row_does_not_grow_when_it_is_signed(tmp_path: Path) -> None:
    with recorder_on_store(tmp_path) as recorder:
        made = recorder.decide(recorder.items.mint(), recorder.items.redeem())
        length = text("SELECT sum(length(reserved)), sum(length(signature)) FROM certificates")
        with recorder.engine.begin() as tx:
            assert tx.execute(length).one() == (72, None)
        recorder.settle(made)
        with recorder.engine.begin() as tx:
            reserved, signature = tx.execute(length).one()
        assert reserved is None
        assert 64 < signature <= 72


CERTIFICATES_IN_A_TEST = 1500
MAX_BYTES = 2000


def test_a_certificate_and_its_entry_take_two_thousand_bytes(tmp_path: Path) -> None:
    """An agent's, spawned by its manager: row, indexes, entry with its terms, and its share of the tiles."""
    with recorder_on_store(tmp_path) as made:
        made.items.rows.now_s = epoch_seconds(CA.now)
        manager = _enrolled(made, "certificate-manager", ("enroll:node",))
        controller = _enrolled(made, "node-controller", ("spawn:component-harness",))
        ledger = LedgerStore(made.engine, LEDGER)
        recorder = Recorder(engine=made.engine, service=made.service, ledger=ledger)
        before = _store_bytes(made.engine)
        for _ in range(CERTIFICATES_IN_A_TEST // 50):
            items = [_spawn(made.items, manager, controller) for _ in range(50)]
            (turn,) = recorder.record([ask(item) for item in items], now_ms=made.now_ms)
            assert turn is not None
            recorder.unsettled.results += [
                Settled(item=placed.ruling.item, index=placed.index, output=signature_of(placed.ruling))
                for placed in turn.placed
            ]
        recorder.flush()
        each = (_store_bytes(made.engine) - before) / CERTIFICATES_IN_A_TEST
    assert each <= MAX_BYTES


def _enrolled(made: RecorderOnStore, subsystem: str, capabilities: tuple[str, ...]) -> CertificateRow:
    token: dict[str, Any] = {"token_id": subsystem[0] * 16, "lifetime_s": 86400}
    names: dict[str, Any] = {"subsystem": subsystem, "agent": made.items.new_agent()}
    names["capabilities"] = capabilities
    item = made.items.redeem(**names, **token)
    made.do(made.items.mint(**names, **token), item)
    (row,) = (each for each in made.certificates() if each.serial == item.certificate.serial)
    return row


def _spawn(items: RecorderInMemory, manager: CertificateRow, controller: CertificateRow) -> Spawn:
    """What a front asks for: bytes as it writes them, for a key and an agent of their own."""
    identity = replace(IDENTITY, agent=parse_agent_id(str(uuid.uuid4())), endpoints=())
    number = int.from_bytes(b"\x40" + secrets.token_bytes(19), "big")
    prepared = CA.prepared(CA.plan(identity, key=new_key().public_key(), serial_number=number, shard=1))
    item = items.spawn(manager, controller, asked=prepared.capabilities)
    return msgspec.structs.replace(item, certificate=prepared)


def _store_bytes(engine: Engine) -> int:
    pages = text("SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()")
    with engine.begin() as tx:
        return int(tx.execute(pages).scalar_one())
