"""To-be-signed bytes in the store: few, exact, and damage is told from a certificate."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, insert

from ca.store.tables import METADATA, TBS_TEMPLATES
from ca.store.tbs_packing import Templates, pack, unpack
from ostiary.errors import InternalFault
from ostiary.store.database import open_for_writing, sqlite_url

TEMPLATE = b"0" + bytes(range(256)) * 3
OTHER = b"0" + bytes(range(255, -1, -1)) * 3


@given(st.binary(max_size=900), st.binary(max_size=900))
def test_any_bytes_come_back_as_they_were(tbs: bytes, template: bytes) -> None:
    packed = pack(tbs, template)
    assert unpack(packed, template) == tbs
    assert len(packed) <= len(tbs) or tbs.startswith(b"H")


def test_what_the_template_has_takes_little() -> None:
    tbs = TEMPLATE.replace(bytes(range(100, 140)), bytes(40), 1)
    assert len(pack(TEMPLATE, TEMPLATE)) < 32
    assert len(pack(tbs, TEMPLATE)) < 100


def test_whole_bytes_of_earlier_revisions_need_no_template() -> None:
    assert unpack(TEMPLATE, None) == TEMPLATE


@pytest.mark.parametrize("template", [None, b"", OTHER], ids=["none", "empty", "another"])
def test_the_wrong_template_is_told(template: bytes | None) -> None:
    with pytest.raises(InternalFault, match="damaged"):
        unpack(pack(TEMPLATE, TEMPLATE), template)


def test_a_damaged_row_is_told() -> None:
    packed = pack(TEMPLATE + b"something else", TEMPLATE)
    for at in range(1, len(packed)):
        damaged = packed[:at] + bytes([packed[at] ^ 1]) + packed[at + 1 :]
        with pytest.raises(InternalFault):
            unpack(damaged, TEMPLATE)
        with pytest.raises(InternalFault):
            unpack(packed[:at], TEMPLATE)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = open_for_writing(sqlite_url(tmp_path / "store"))
    METADATA.create_all(made)
    yield made
    made.dispose()


def test_a_template_is_read_once(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    templates, key = Templates(), (1, "component")
    with engine.begin() as tx:
        assert templates.read(tx, [key]) == {}
        tx.execute(insert(TBS_TEMPLATES).values(shard=1, subsystem="component", tbs=TEMPLATE))
    with engine.begin() as tx:
        assert templates.read(tx, [key, (2, "component"), (1, "other")]) == {key: TEMPLATE}
        monkeypatch.setattr(tx, "execute", None)
        assert templates.read(tx, [key]) == {key: TEMPLATE}
        assert templates.look_up(tx, [key]) == {key: TEMPLATE}


def test_what_was_only_looked_up_is_not_remembered(engine: Engine) -> None:
    """A turn that is undone takes its template with it."""
    templates, key = Templates(), (1, "component")
    transaction = engine.connect()
    with transaction as tx:
        tx.execute(insert(TBS_TEMPLATES).values(shard=1, subsystem="component", tbs=TEMPLATE))
        assert templates.look_up(tx, [key]) == {key: TEMPLATE}
        tx.rollback()
    with engine.begin() as tx:
        assert templates.read(tx, [key]) == {}


def test_a_process_remembers_no_more_than_it_needs(engine: Engine) -> None:
    templates = Templates()
    rows = [{"shard": n, "subsystem": "component", "tbs": b"%d" % n} for n in range(1100)]
    with engine.begin() as tx:
        tx.execute(insert(TBS_TEMPLATES), rows)
    with engine.begin() as tx:
        for n in range(1100):
            assert templates.read(tx, [(n, "component")]) == {(n, "component"): b"%d" % n}
        everything = [(n, "component") for n in range(1100)]
        assert len(templates.read(tx, everything)) == 1100
