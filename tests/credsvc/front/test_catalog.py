"""What a front knows of the store: fresh enough, read once per version, and never a secret."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, delete, event, insert, update

from credsvc.front.catalog import FRESH_S, JUST_NOW_S, Catalog
from credsvc.store.tables import ACTIVES, CREDENTIALS, METADATA, MODULES, POLICIES
from ostiary.errors import Busy, Misconfigured
from ostiary.store.database import open_for_reading, open_for_writing, sqlite_url
from tests.support.credentials_front import AWS, LIBRARY, POLICY


class Store:
    """A store with one module, one credential and one policy set, and a catalog that reads it by a clock in
    hand.
    """

    def __init__(self, path: Path) -> None:
        self.writer: Engine = open_for_writing(sqlite_url(path))
        METADATA.create_all(self.writer)
        with self.writer.begin() as tx:
            tx.execute(insert(MODULES).values(**_module()))
            tx.execute(insert(CREDENTIALS).values(**_credential()))
            tx.execute(insert(POLICIES).values(digest="p1", text=POLICY.encode(), changed_at_ms=0))
            tx.execute(insert(ACTIVES).values(what="policy", digest="p1"))
        self.reader: Engine = open_for_reading(sqlite_url(path))
        self.statements: list[str] = []
        event.listen(self.reader, "before_cursor_execute", self._note)
        self.now_s = 100.0
        self.catalog = Catalog(self.reader, monotonic_s=lambda: self.now_s)

    def _note(self, _connection: Any, _cursor: Any, statement: str, *_more: Any) -> None:
        self.statements.append(statement)

    def change(self, *statements: Any) -> None:
        with self.writer.begin() as tx:
            for statement in statements:
                tx.execute(statement)


def _module() -> dict[str, Any]:
    return {
        "name": "aws-sigv4",
        "module_digest": "c" * 64,
        "manifest_digest": AWS.manifest.digest,
        "manifest": (LIBRARY / "aws-sigv4" / "manifest.toml").read_bytes(),
        "source": AWS.code.source.encode(),
        "state": "active",
        "changed_at_ms": 0,
    }


def _credential(name: str = "billing-aws", **changed: Any) -> dict[str, Any]:
    return {
        "name": name,
        "version": 1,
        "module": "aws-sigv4",
        "owner": "component",
        "labels": ["billing"],
        "shareable": {"access_key_id": "AKIDEXAMPLE"},
        "ceiling": {"region": ["eu-*"]},
        "disabled": False,
        "sealed": b"sealed",
        "changed_at_ms": 0,
        **changed,
    }


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path / "store.sqlite")
    yield made
    made.writer.dispose()
    made.reader.dispose()


def test_a_credential_with_its_module_and_policies(store: Store) -> None:
    found = store.catalog.find("billing-aws")
    assert found is not None
    assert (found.credential.version, found.credential.ceiling) == (1, {"region": ("eu-*",)})
    assert found.credential.entity.labels == ("billing",)
    assert found.module == AWS
    assert found.judge.digest == "p1"
    assert store.catalog.find("nobody") is None


def test_secrets_are_never_read(store: Store) -> None:
    store.catalog.find("billing-aws")
    store.catalog.page(after="", limit=10)
    assert store.statements
    for statement in store.statements:
        assert "sealed" not in statement.partition("FROM")[0]


def test_what_is_known_is_not_asked_again_within_a_second(store: Store) -> None:
    first = store.catalog.find("billing-aws")
    asked = len(store.statements)
    store.now_s += FRESH_S
    assert store.catalog.find("billing-aws") == first
    assert len(store.statements) == asked


def test_after_a_second_a_change_is_seen_and_unchanged_modules_are_not_parsed_again(store: Store) -> None:
    first = store.catalog.find("billing-aws")
    store.change(update(CREDENTIALS).values(version=2))
    store.now_s += FRESH_S + 0.1
    second = store.catalog.find("billing-aws")
    assert first is not None
    assert second is not None
    assert second.credential.version == 2
    assert second.module is first.module
    assert second.judge is first.judge


def test_a_refusal_looks_again_at_once(store: Store) -> None:
    first = store.catalog.find("billing-aws")
    store.now_s += JUST_NOW_S + 0.01
    assert not store.catalog.has_moved("billing-aws", first)
    store.change(
        insert(POLICIES).values(digest="p2", text=b"", changed_at_ms=0), update(ACTIVES).values(digest="p2")
    )
    store.now_s += JUST_NOW_S + 0.01
    assert store.catalog.has_moved("billing-aws", first)
    second = store.catalog.find("billing-aws")
    assert second is not None
    assert second.judge.digest == "p2"


def test_that_another_was_read_just_now_says_nothing_of_this_one(store: Store) -> None:
    first = store.catalog.find("billing-aws")
    store.change(update(CREDENTIALS).values(version=2))
    store.now_s += JUST_NOW_S + 0.01
    assert not store.catalog.has_moved("nobody", None)
    assert store.catalog.has_moved("billing-aws", first)


def test_what_is_known_to_be_old_is_read_though_it_was_read_just_now(store: Store) -> None:
    first = store.catalog.find("billing-aws")
    store.change(update(CREDENTIALS).values(version=2))
    assert not store.catalog.has_moved("billing-aws", first)
    store.catalog.look_again("billing-aws")
    assert store.catalog.has_moved("billing-aws", first)


def test_refusals_do_not_make_the_store_be_read_each(store: Store) -> None:
    store.catalog.find("billing-aws")
    assert store.catalog.find("nobody") is None
    asked = len(store.statements)
    for _ in range(100):
        assert not store.catalog.has_moved("nobody", None)
    assert len(store.statements) == asked


@pytest.mark.parametrize("change", ["deleted", "unsealed", "module-retired"])
def test_what_cannot_be_used_is_not_there(store: Store, change: str) -> None:
    statements: dict[str, Any] = {
        "deleted": delete(CREDENTIALS),
        "unsealed": update(CREDENTIALS).values(sealed=None),
        "module-retired": update(MODULES).values(state="retired"),
    }
    # Policies name a module's actions: they go before it goes.
    store.change(update(POLICIES).values(text=b""), statements[change])
    assert store.catalog.find("billing-aws") is None
    assert store.catalog.page(after="", limit=10) == ([], None)


def test_policies_that_no_longer_fit_do_not_stop_the_service(store: Store) -> None:
    first = store.catalog.find("billing-aws")
    assert first is not None
    store.change(
        insert(POLICIES).values(digest="p2", text=b"permit(", changed_at_ms=0),
        update(ACTIVES).values(digest="p2"),
    )
    store.now_s += FRESH_S + 0.1
    second = store.catalog.find("billing-aws")
    assert second is not None
    assert second.judge is first.judge


def test_policies_that_never_fitted_are_the_operators_to_mend(store: Store) -> None:
    store.change(update(MODULES).values(state="retired"))
    with pytest.raises(Misconfigured):
        store.catalog.find("billing-aws")


def test_pages_are_in_order_of_names(store: Store) -> None:
    store.change(*(insert(CREDENTIALS).values(**_credential(f"c{number}")) for number in range(5)))
    first, after = store.catalog.page(after="", limit=3)
    assert [each.credential.entity.name for each in first] == ["billing-aws", "c0", "c1"]
    assert after == "c1"
    rest, after = store.catalog.page(after=after, limit=4)
    assert [each.credential.entity.name for each in rest] == ["c2", "c3", "c4"]
    assert after is None


def test_a_page_with_a_credential_that_cannot_be_used_is_not_the_last(store: Store) -> None:
    store.change(
        insert(CREDENTIALS).values(**_credential("c0", module="not-active-yet")),
        insert(CREDENTIALS).values(**_credential("c1")),
    )
    first, after = store.catalog.page(after="", limit=2)
    assert ([each.credential.entity.name for each in first], after) == (["billing-aws"], "c0")
    rest, after = store.catalog.page(after=after or "", limit=2)
    assert ([each.credential.entity.name for each in rest], after) == (["c1"], None)


def test_a_store_that_cannot_be_read_is_busy(store: Store) -> None:
    with store.writer.begin() as tx:
        CREDENTIALS.drop(tx)
    with pytest.raises(Busy):
        store.catalog.find("billing-aws")
    with pytest.raises(Busy):
        store.catalog.page(after="", limit=1)
