"""What a front knows of the store: fresh enough, read once per version, and never a secret."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from sqlalchemy import Engine, delete, event, insert, update

from credsvc.front.catalog import FRESH_S, JUST_NOW_S, Catalog, Subject
from credsvc.store.tables import ACTIVES, CREDENTIALS, METADATA, MODULES, POLICIES
from ostiary.errors import Busy, Misconfigured
from ostiary.front.offload import Offload
from ostiary.store.database import open_for_reading, open_for_writing, sqlite_url
from tests.support.credentials_front import AWS, LIBRARY, POLICY
from tests.support.waiting import PATIENCE_S

T = TypeVar("T")


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
        # While it is clear, reads wait.
        self.held = threading.Event()
        self.held.set()
        event.listen(self.reader, "before_cursor_execute", self._note)
        self.now_s = 100.0
        self.offload = Offload(threads=2)
        self.catalog = Catalog(self.reader, offload=self.offload, monotonic_s=lambda: self.now_s)
        self.runner = asyncio.Runner()

    def _note(self, _connection: Any, _cursor: Any, statement: str, *_more: Any) -> None:
        self.statements.append(statement)
        self.held.wait(PATIENCE_S)

    def run(self, asked: Coroutine[Any, Any, T]) -> T:
        """Wait for a coroutine on the store's loop."""
        return self.runner.run(asked)

    def find(self, name: str) -> Subject | None:
        return self.run(self.catalog.find(name))

    def has_moved(self, name: str, seen: Subject | None) -> bool:
        return self.run(self.catalog.has_moved(name, seen))

    def page(self, *, after: str, limit: int) -> tuple[list[Subject], str | None]:
        return self.run(self.catalog.page(after=after, limit=limit))

    def close(self) -> None:
        self.runner.close()
        self.offload.close()
        self.writer.dispose()
        self.reader.dispose()

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
    made.close()


def test_a_credential_with_its_module_and_policies(store: Store) -> None:
    found = store.find("billing-aws")
    assert found is not None
    assert (found.credential.version, found.credential.ceiling) == (1, {"region": ("eu-*",)})
    assert found.credential.entity.labels == ("billing",)
    assert found.module == AWS
    assert found.judge.digest == "p1"
    assert store.find("nobody") is None


def test_secrets_are_never_read(store: Store) -> None:
    store.find("billing-aws")
    store.page(after="", limit=10)
    assert store.statements
    for statement in store.statements:
        assert "sealed" not in statement.partition("FROM")[0]


def test_what_is_known_is_not_asked_again_within_a_second(store: Store) -> None:
    first = store.find("billing-aws")
    asked = len(store.statements)
    store.now_s += FRESH_S
    assert store.find("billing-aws") == first
    assert len(store.statements) == asked


def test_after_a_second_a_change_is_seen_and_unchanged_modules_are_not_parsed_again(store: Store) -> None:
    first = store.find("billing-aws")
    store.change(update(CREDENTIALS).values(version=2))
    store.now_s += FRESH_S + 0.1
    second = store.find("billing-aws")
    assert first is not None
    assert second is not None
    assert second.credential.version == 2
    assert second.module is first.module
    assert second.judge is first.judge


def test_a_refusal_looks_again_at_once(store: Store) -> None:
    first = store.find("billing-aws")
    store.now_s += JUST_NOW_S + 0.01
    assert not store.has_moved("billing-aws", first)
    store.change(
        insert(POLICIES).values(digest="p2", text=b"", changed_at_ms=0), update(ACTIVES).values(digest="p2")
    )
    store.now_s += JUST_NOW_S + 0.01
    assert store.has_moved("billing-aws", first)
    second = store.find("billing-aws")
    assert second is not None
    assert second.judge.digest == "p2"


def test_that_another_was_read_just_now_says_nothing_of_this_one(store: Store) -> None:
    first = store.find("billing-aws")
    store.change(update(CREDENTIALS).values(version=2))
    store.now_s += JUST_NOW_S + 0.01
    assert not store.has_moved("nobody", None)
    assert store.has_moved("billing-aws", first)


def test_what_is_known_to_be_old_is_read_though_it_was_read_just_now(store: Store) -> None:
    first = store.find("billing-aws")
    store.change(update(CREDENTIALS).values(version=2))
    assert not store.has_moved("billing-aws", first)
    store.run(store.catalog.look_again("billing-aws"))
    assert store.has_moved("billing-aws", first)


def test_refusals_do_not_make_the_store_be_read_each(store: Store) -> None:
    store.find("billing-aws")
    assert store.find("nobody") is None
    asked = len(store.statements)
    for _ in range(100):
        assert not store.has_moved("nobody", None)
    assert len(store.statements) == asked


def test_requests_that_need_the_same_share_a_read(store: Store) -> None:
    async def story() -> None:
        found = await asyncio.gather(*(store.catalog.find("billing-aws") for _ in range(20)))
        assert found[0] is not None
        assert all(each is found[0] for each in found)

    store.find("nobody")
    once = len(store.statements)
    store.now_s += 2 * FRESH_S + 0.1
    store.statements.clear()
    store.run(story())
    assert len(store.statements) < once


def test_while_one_reads_others_go_on_with_what_is_known_for_another_second(store: Store) -> None:
    async def story() -> None:
        first = await store.catalog.judge()
        store.held.clear()
        store.now_s += FRESH_S + 0.1
        reader = asyncio.create_task(store.catalog.judge())
        await asyncio.sleep(0)
        assert await store.catalog.judge() is first
        assert not reader.done()
        store.now_s += FRESH_S
        late = asyncio.create_task(store.catalog.judge())
        await asyncio.sleep(0)
        assert not late.done()
        store.held.set()
        assert await reader is await late is first

    try:
        store.run(asyncio.wait_for(story(), PATIENCE_S))
    finally:
        store.held.set()


@pytest.mark.parametrize("change", ["deleted", "unsealed", "module-retired"])
def test_what_cannot_be_used_is_not_there(store: Store, change: str) -> None:
    statements: dict[str, Any] = {
        "deleted": delete(CREDENTIALS),
        "unsealed": update(CREDENTIALS).values(sealed=None),
        "module-retired": update(MODULES).values(state="retired"),
    }
    # Policies name a module's actions: they go before it goes.
    store.change(update(POLICIES).values(text=b""), statements[change])
    assert store.find("billing-aws") is None
    assert store.page(after="", limit=10) == ([], None)


def test_policies_that_no_longer_fit_do_not_stop_the_service(store: Store) -> None:
    first = store.find("billing-aws")
    assert first is not None
    store.change(
        insert(POLICIES).values(digest="p2", text=b"permit(", changed_at_ms=0),
        update(ACTIVES).values(digest="p2"),
    )
    store.now_s += FRESH_S + 0.1
    second = store.find("billing-aws")
    assert second is not None
    assert second.judge is first.judge


def test_policies_that_never_fitted_are_the_operators_to_mend(store: Store) -> None:
    store.change(update(MODULES).values(state="retired"))
    with pytest.raises(Misconfigured):
        store.find("billing-aws")


def test_pages_are_in_order_of_names(store: Store) -> None:
    store.change(*(insert(CREDENTIALS).values(**_credential(f"c{number}")) for number in range(5)))
    first, after = store.page(after="", limit=3)
    assert [each.credential.entity.name for each in first] == ["billing-aws", "c0", "c1"]
    assert after == "c1"
    rest, after = store.page(after=after, limit=4)
    assert [each.credential.entity.name for each in rest] == ["c2", "c3", "c4"]
    assert after is None


def test_a_page_with_a_credential_that_cannot_be_used_is_not_the_last(store: Store) -> None:
    store.change(
        insert(CREDENTIALS).values(**_credential("c0", module="not-active-yet")),
        insert(CREDENTIALS).values(**_credential("c1")),
    )
    first, after = store.page(after="", limit=2)
    assert ([each.credential.entity.name for each in first], after) == (["billing-aws"], "c0")
    rest, after = store.page(after=after or "", limit=2)
    assert ([each.credential.entity.name for each in rest], after) == (["c1"], None)


def test_a_store_that_cannot_be_read_is_busy(store: Store) -> None:
    with store.writer.begin() as tx:
        CREDENTIALS.drop(tx)
    with pytest.raises(Busy):
        store.find("billing-aws")
    with pytest.raises(Busy):
        store.page(after="", limit=1)
