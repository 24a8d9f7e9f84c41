"""Rows from the store and back: what is read for a batch, and what a late seal may still write."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import Connection, Engine, select

from credsvc.items import DeleteCredential, DisableCredential
from credsvc.recorder.storing import active_documents, load, store, store_sealed
from credsvc.store.tables import ACTIVES, CREDENTIALS, MODULES, POLICIES
from ostiary.work.item import Item
from ostiary.work.reports import Alarm
from tests.support.credential_decisions import (
    APPROVE,
    F1,
    M1,
    NOW_MS,
    OPERATOR,
    P1,
    POLICY,
    PROPOSE,
    PUT,
    SEALED,
    USE,
    decide,
    make_ready,
    rules,
    settle,
    store_at,
)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = store_at(tmp_path)
    yield made
    made.dispose()


@pytest.fixture
def ready(engine: Engine) -> Iterator[Connection]:
    with engine.begin() as tx:
        make_ready(tx)
        yield tx


def test_an_empty_store_has_no_rows_and_no_policy(engine: Engine) -> None:
    with engine.begin() as tx:
        rows = load(tx, [USE])
    assert (rows.credentials, rows.modules, rows.policy_digest) == ({}, {}, None)


def test_a_batch_reads_what_its_items_name(ready: Connection) -> None:
    rows = load(ready, [USE])
    assert rows.credentials["grid"].sealed == SEALED
    assert list(rows.modules) == [("gogrid", M1, F1)]
    assert rows.policy_digest == P1


def test_a_credential_brings_its_own_module_whatever_the_item_says(ready: Connection) -> None:
    """Otherwise a use that names another module would be decided without the credential's."""
    rows = load(ready, [msgspec.structs.replace(USE, module="aws-sigv4")])
    assert list(rows.modules) == [("gogrid", M1, F1)]


def test_what_names_neither_reads_neither(ready: Connection) -> None:
    rows = load(ready, [Alarm(what="keyholder-refused", detail="entry 7")])
    assert (rows.credentials, rows.modules) == ({}, {})


def test_policies_are_kept_by_digest_and_one_is_active(ready: Connection) -> None:
    other = msgspec.structs.replace(POLICY, policy="// none", policy_digest="d" * 64)
    for item in (other, POLICY, other):
        store(ready, item, now_ms=NOW_MS)
    assert {row.digest for row in ready.execute(select(POLICIES))} == {P1, "d" * 64}
    assert [tuple(row) for row in ready.execute(select(ACTIVES))] == [("policy", "d" * 64)]


def test_a_put_and_an_approval_write_nothing_before_the_keyholder_has_done_them(engine: Engine) -> None:
    with engine.begin() as tx:
        store(tx, PUT, now_ms=NOW_MS)
        store(tx, APPROVE, now_ms=NOW_MS)
        assert tx.execute(select(CREDENTIALS)).first() is None
        assert tx.execute(select(MODULES)).first() is None


def test_a_seal_keeps_what_was_put(ready: Connection) -> None:
    rotation = msgspec.structs.replace(PUT, version=2, labels=("billing", "new"), ceiling={"host": ("*",)})
    store_sealed(ready, rotation, b"new seal", now_ms=NOW_MS)
    (row,) = ready.execute(select(CREDENTIALS)).mappings()
    assert (row["version"], row["sealed"], row["changed_at_ms"]) == (2, b"new seal", NOW_MS)
    assert (row["labels"], row["ceiling"]) == (["billing", "new"], {"host": ["*"]})


def test_a_seal_of_a_version_that_does_not_follow_is_logged_and_dropped(
    ready: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        store_sealed(ready, msgspec.structs.replace(PUT, version=5), b"late", now_ms=NOW_MS)
    assert [record.message for record in caplog.records] == ["credential-put-overtaken"]
    assert ready.execute(select(CREDENTIALS.c.version, CREDENTIALS.c.sealed)).one() == (1, SEALED)


def test_documents_are_the_active_modules_alone(ready: Connection) -> None:
    proposed = msgspec.structs.replace(PROPOSE, module="other", manifest=b"another manifest")
    store(ready, proposed, now_ms=NOW_MS)
    assert [document.manifest for document in active_documents(ready)] == [b"manifest"]


@pytest.mark.parametrize(
    ("overtaking", "rule"),
    [
        (DisableCredential(operator=OPERATOR, credential="grid"), "credential-disabled"),
        (DeleteCredential(operator=OPERATOR, credential="grid"), "credential-unknown"),
    ],
    ids=["disabled", "deleted"],
)
def test_a_put_on_its_way_does_not_undo_what_came_behind_it(
    ready: Connection, overtaking: Item, rule: str
) -> None:
    rotation = msgspec.structs.replace(PUT, version=2)
    assert rules(decide(ready, rotation, overtaking)) == ["authorized", "authorized"]
    settle(ready, rotation, b"new seal")
    assert rules(decide(ready, USE, msgspec.structs.replace(USE, version=2))) == [rule, rule]


def test_of_two_puts_on_their_way_the_first_is_stored(ready: Connection) -> None:
    rotation = msgspec.structs.replace(PUT, version=2)
    decide(ready, rotation)
    decide(ready, rotation)
    settle(ready, rotation, b"first")
    settle(ready, rotation, b"second")
    (ruling,) = decide(ready, msgspec.structs.replace(USE, version=2))
    assert ruling.attachment == b"first"
