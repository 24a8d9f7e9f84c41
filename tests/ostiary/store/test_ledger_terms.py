"""By which terms an entry is found, and what the index keeps of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, MetaData, func, select

from ostiary.recorder import ledger_store
from ostiary.recorder.ledger_store import LedgerStore
from ostiary.store import ledger_reader
from ostiary.store.database import open_for_writing, sqlite_url
from ostiary.store.ledger_reader import LedgerReader
from ostiary.store.ledger_tables import define_ledger_tables
from ostiary.store.ledger_terms import is_about, term_digest, terms_of

METADATA = MetaData()
TABLES = define_ledger_tables(METADATA)


@given(
    st.dictionaries(st.sampled_from(["serial", "agent", "reason", "by"]), st.text(max_size=300) | st.none())
)
def test_terms_are_of_known_members_only(entry: dict[str, object]) -> None:
    assert {term.partition(":")[0] for term in terms_of(entry)} <= {"serial", "agent"}


def test_terms_stand_anywhere_in_an_entry() -> None:
    entry = {"certificate": {"serial": "1f", "agent": "a"}, "previous": "2e", "by": {"serial": "3d"}, "at": 5}
    assert terms_of(entry) == {"serial:1f", "agent:a", "previous:2e", "serial:3d"}
    assert is_about(json.dumps(entry).encode(), frozenset({"serial:3d", "token:x"}))
    assert not is_about(json.dumps(entry).encode(), frozenset({"serial:2e"}))


@given(st.text(max_size=300))
def test_a_digest_is_the_beginning_of_a_sha_256_as_a_signed_number(term: str) -> None:
    digest = term_digest(term)
    assert -(2**63) <= digest < 2**63
    assert digest.to_bytes(8, "big", signed=True) == hashlib.sha256(term.encode()).digest()[:8]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = open_for_writing(sqlite_url(tmp_path / "store"))
    with engine.begin() as tx:
        METADATA.create_all(tx)
    yield engine
    engine.dispose()


def test_terms_that_share_a_digest_are_told_apart(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where pages of other terms' entries lie between those that were asked for."""
    for module in (ledger_store, ledger_reader):
        monkeypatch.setattr(module, "term_digest", lambda term: len(term) % 2)
    store = LedgerStore(engine, TABLES)
    entries = [b'{"agent":"%d","serial":"%d"}' % (n % 2, n // 50) for n in range(500)]
    with engine.begin() as tx:
        store.append(tx, entries, [None] * len(entries))
    with engine.begin() as tx:
        reader = LedgerReader(tx, TABLES)
        assert reader.find(["serial:9"], first=0, count=7) == [(n, entries[n]) for n in range(450, 457)]
        assert reader.find(["serial:9"], first=457, count=100) == [(n, entries[n]) for n in range(457, 500)]
        assert reader.find(["serial:9"], first=500, count=100) == []
        assert reader.find(["serial:77"], first=0, count=100) == []
        both = reader.find(["serial:0", "serial:1"], first=0, count=1000)
        assert [index for index, _ in both] == list(range(100))
        # One row where two terms of an entry have one digest.
        assert tx.execute(select(func.count()).select_from(TABLES.index)).scalar_one() <= 2 * 500
