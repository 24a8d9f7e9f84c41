"""What is read of the store: rows by index in order of names, and never a secret."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import Connection, Engine, event

from credsvc.items import DeleteCredential
from credsvc.store import reader
from tests.support.credential_decisions import (
    F1,
    M1,
    OPERATOR,
    P1,
    PROPOSE,
    PUT,
    decide,
    make_ready,
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


def put(tx: Connection, *names: str) -> None:
    for name in names:
        item = msgspec.structs.replace(PUT, credential=name)
        decide(tx, item)
        settle(tx, item, b"sealed")


def test_an_empty_store_has_nothing(engine: Engine) -> None:
    with engine.begin() as tx:
        assert reader.read_credential(tx, "grid") is None
        assert reader.read_actives(tx) == reader.Actives(policy_digest=None, modules=())
        assert reader.read_active_versions(tx) == []
        assert reader.read_policy(tx, None) == b""


def test_a_credential_in_clear(ready: Connection) -> None:
    row = reader.read_credential(ready, "grid")
    assert row is not None
    assert (row.version, row.module, row.owner, row.disabled) == (1, "gogrid", "component", False)
    assert (row.labels, row.shareable, row.ceiling) == (
        ["billing"],
        {"api_key": "foo"},
        {"host": ["api.gogrid.com"]},
    )


def test_no_question_selects_a_sealed_secret(ready: Connection) -> None:
    asked: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_more: Any) -> None:
        asked.append(statement.partition("FROM")[0])

    event.listen(ready, "before_cursor_execute", note)
    reader.read_credential(ready, "grid")
    reader.read_page(ready, after="", limit=9)
    reader.read_all_credentials(ready)
    assert len(asked) == 3
    assert not any("sealed" in columns for columns in asked)


def test_pages_follow_each_other_in_order_of_names(ready: Connection) -> None:
    put(ready, "c", "a", "b")
    pages = [[row.name for row in reader.read_page(ready, after=name, limit=2)] for name in ("", "b", "grid")]
    assert pages == [["a", "b"], ["c", "grid"], []]
    assert [row.name for row in reader.read_all_credentials(ready)] == ["a", "b", "c", "grid"]


def test_what_was_deleted_is_not_there(ready: Connection) -> None:
    decide(ready, DeleteCredential(operator=OPERATOR, credential="grid"))
    assert reader.read_credential(ready, "grid") is None
    assert reader.read_page(ready, after="", limit=9) == []


def test_actives_are_equal_as_long_as_nothing_was_activated(ready: Connection) -> None:
    before = reader.read_actives(ready)
    assert before == reader.Actives(policy_digest=P1, modules=(("gogrid", M1, F1),))
    put(ready, "another")
    decide(ready, msgspec.structs.replace(PROPOSE, module="proposed-only"))
    assert reader.read_actives(ready) == before


def test_policies_are_read_by_the_digest_that_was_seen(ready: Connection) -> None:
    assert reader.read_policy(ready, P1) == b""
    assert reader.read_policy(ready, "d" * 64) == b""
