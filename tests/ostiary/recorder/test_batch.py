"""Turns: what one transaction records, and what becomes of the rest where the store refuses some of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine

from ca.items import Activate
from ostiary.keyholder.protocol import encode_message
from ostiary.recorder.batch import Recorder, ask
from ostiary.recorder.ledger_store import LedgerStore
from ostiary.recorder.service import Asked, Ruling
from ostiary.store.database import open_for_writing, sqlite_url
from ostiary.work.item import Item
from ostiary.work.reports import Alarm
from tests.support.small_service import LEDGER, METADATA, NotesService

NOW_MS = 1_800_000_000_000
FRAME_BYTES = 425_952
"""Of a channel where SO_SNDBUF can't be raised."""


class DueService(NotesService):
    """`waiting` is what time asks for."""

    def __init__(self, *serials: str) -> None:
        self.waiting = serials

    def due(self, tx: Connection, *, now_ms: int) -> list[Item]:
        return [Activate(serial=serial, means="used") for serial in self.waiting]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = open_for_writing(sqlite_url(tmp_path / "store"))
    with made.begin() as tx:
        METADATA.create_all(tx)
    yield made
    made.dispose()


def recorder_of(engine: Engine, service: NotesService) -> Recorder:
    return Recorder(engine=engine, service=service, ledger=LedgerStore(engine, LEDGER))


def test_what_is_due_is_one_turn_behind_the_alarms(engine: Engine) -> None:
    recorder = recorder_of(engine, DueService("a", "b"))
    (turn,) = recorder.record_due([Alarm(what="x", detail="y")], now_ms=NOW_MS)
    assert [placed.index for placed in turn.placed] == [0, 1, 2]
    assert len(turn.batch.work) == 2


def test_nothing_due_is_no_turn(engine: Engine) -> None:
    assert recorder_of(engine, DueService()).record_due([], now_ms=NOW_MS) == []


def test_where_the_store_refuses_one_of_them_every_other_goes_to_the_keyholder(engine: Engine) -> None:
    turns = recorder_of(engine, DueService("a", "boom", "b")).record_due([], now_ms=NOW_MS)
    assert [turn.batch.first for turn in turns] == [0, 1]
    assert all(len(turn.batch.work) == 1 for turn in turns)


class LargeService(NotesService):
    """A large attachment beside each item."""

    def decide(self, tx: Connection, asked: Sequence[Asked], *, now_ms: int) -> list[Ruling]:
        return [
            replace(each, attachment=bytes(48 << 10)) for each in super().decide(tx, asked, now_ms=now_ms)
        ]


@pytest.mark.parametrize(("count", "turns"), [(1, 1), (7, 1), (8, 8)])
def test_what_no_message_takes_together_goes_to_the_keyholder_one_by_one(
    engine: Engine, count: int, turns: int
) -> None:
    asked = [ask(Activate(serial=f"s{number}", means="used")) for number in range(count)]
    recorder = recorder_of(engine, LargeService())
    recorded = recorder.record(asked, now_ms=NOW_MS)
    batches = [turn.batch for turn in recorded if turn is not None]
    assert len(recorded) == len(batches) == turns
    assert all(len(encode_message(batch)) < FRAME_BYTES for batch in batches)
    assert [placed.index for turn in recorded if turn for placed in turn.placed] == list(range(count))
