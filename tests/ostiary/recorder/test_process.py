"""Recorder and keyholder together: what is answered is recorded first, and nobody gets another's answer."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import select

from ca.items import Activate, VoidToken
from ostiary.edge.channel import Client
from ostiary.edge.frame import MAX_FRAME_BYTES, Status
from ostiary.errors import BadInput, Busy, Forbidden, InternalFault
from ostiary.keyholder.protocol import Document
from ostiary.ledger.checkpoint import open_note
from ostiary.ledger.note import KeyType, verifier_key
from ostiary.ledger.verify import verify_log
from ostiary.recorder import process
from ostiary.recorder.keyholder_link import RETRY_S
from ostiary.recorder.process import DUE_EVERY_S, MAX_IN_FLIGHT
from ostiary.store.ledger_reader import LedgerReader
from ostiary.work.answer import decode_refused
from ostiary.work.item import Operator, RawItem
from ostiary.work.item_encoding import encode_item
from ostiary.work.reports import Alarm
from tests.support.small_service import KEY, LEDGER, NOTES, ORIGIN, KeyholderThread, RecorderThread, client
from tests.support.waiting import PATIENCE_S, RUNS_OUT_S, rarely, until

UID = os.getuid()


@pytest.fixture
def keyholder(tmp_path: Path) -> Iterator[KeyholderThread]:
    thread = KeyholderThread(tmp_path, UID)
    yield thread
    thread.stop()


@pytest.fixture
def recorder(tmp_path: Path, keyholder: KeyholderThread) -> Iterator[RecorderThread]:
    thread = RecorderThread(tmp_path, UID)
    yield thread
    thread.stop()


def act(serial: str) -> Activate:
    return Activate(serial=serial, means="used")


def submit_when_up(directory: Path, serial: str) -> int:
    indices: list[int] = []

    def is_done() -> bool:
        with contextlib.suppress(Busy):
            indices.append(front.submit(act(serial)).index)
        return bool(indices)

    with client(directory, UID) as front:
        until(is_done, serial)
    return indices[0]


def signed_entries(recorder: RecorderThread) -> tuple[bytes, list[bytes]]:
    with recorder.engine.begin() as tx:
        reader = LedgerReader(tx, LEDGER)
        return reader.note(), [entry for _, entry in reader.entries(0, 1000)]


def test_an_act_is_answered_with_its_entry_and_the_keyholders_output(
    tmp_path: Path, recorder: RecorderThread
) -> None:
    with client(tmp_path, UID) as front:
        done = front.submit(act("abc"))
    assert (done.index, done.output) == (0, b"abc beside")
    until(lambda: _noted(recorder, 1))
    note, entries = signed_entries(recorder)
    assert b'"serial":"abc"' in entries[0]
    checkpoint = open_note(note, [verifier_key(ORIGIN, KEY, KeyType.LOG)])
    verify_log(entries, checkpoint, since=None, hashes=None, waypoints=())


def _noted(recorder: RecorderThread, size: int) -> bool:
    with recorder.engine.begin() as tx:
        note = tx.execute(select(LEDGER.head.c.note)).scalar_one()
        return bool(note) and note.split(b"\n")[1] == str(size).encode()


def test_a_denial_is_recorded_with_its_rule(tmp_path: Path, recorder: RecorderThread) -> None:
    with client(tmp_path, UID) as front, pytest.raises(Forbidden) as caught:
        front.submit(act("no-way"))
    assert caught.value.rule == "notes-denied"
    until(lambda: _noted(recorder, 1))
    assert b'"decision":"denied"' in signed_entries(recorder)[1][0]


def test_what_the_keyholder_refuses_is_an_alarm_in_the_ledger(
    tmp_path: Path, recorder: RecorderThread
) -> None:
    with client(tmp_path, UID) as front, pytest.raises(InternalFault, match="echo-refused"):
        front.submit(act("kh"))
    until(lambda: _noted(recorder, 2))
    refused, alarm = signed_entries(recorder)[1]
    assert b'"serial":"kh"' in refused
    assert b'"alarm":"keyholder-refused","at":' in alarm
    assert b'"detail":"entry 0: echo-refused"' in alarm


def test_a_channel_carries_only_its_list(tmp_path: Path, recorder: RecorderThread) -> None:
    item = VoidToken(operator=Operator(uid=0, name="root"), token_id="t")
    with client(tmp_path, UID) as front, pytest.raises(BadInput, match="does not carry"):
        front.submit(item)


@pytest.mark.parametrize("body", [b"", b"\x80", encode_item(act("a"))[:-1], encode_item(act("a")) + b"\x00"])
def test_what_is_no_item_is_refused_and_not_recorded(
    tmp_path: Path, recorder: RecorderThread, body: bytes
) -> None:
    submit_when_up(tmp_path, "first")
    channel = Client(tmp_path / "r", expected_uids=frozenset({UID}))
    answer = channel.call(body, timeout_s=PATIENCE_S)
    channel.close()
    assert answer.status is Status.REFUSED
    assert decode_refused(answer.body).by == "parser"
    assert submit_when_up(tmp_path, "second") == 1


def test_in_a_batch_only_the_bad_item_fails(
    tmp_path: Path, keyholder: KeyholderThread, recorder: RecorderThread
) -> None:
    submit_when_up(tmp_path, "first")
    outcomes: dict[str, object] = {}

    def ask(serial: str) -> None:
        with client(tmp_path, UID) as front:
            try:
                outcomes[serial] = front.submit(act(serial)).output
            except (Busy, Forbidden) as exc:
                outcomes[serial] = type(exc)

    names = [f"a{i}" for i in range(12)] + ["boom", "no"]
    with ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(ask, names))
    assert outcomes.pop("boom") is Busy
    assert outcomes.pop("no") is Forbidden
    assert outcomes == {name: f"{name} beside".encode() for name in names[:12]}


def test_nobody_gets_anothers_answer_while_the_keyholder_dies(
    tmp_path: Path, keyholder: KeyholderThread
) -> None:
    recorder = RecorderThread(tmp_path, UID)
    submit_when_up(tmp_path, "first")
    enough = threading.Event()
    answered: list[tuple[str, bytes, int]] = []

    def load(worker: int) -> None:
        with client(tmp_path, UID) as front:
            turn = 0
            while not enough.is_set():
                turn += 1
                serial = f"w{worker}-{turn}"
                try:
                    done = front.submit(act(serial))
                except Busy:
                    time.sleep(0.01)
                else:
                    answered.append((serial, done.output, done.index))

    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(load, worker) for worker in range(8)]
        until(lambda: len(answered) >= 25)
        keyholder.stop()
        time.sleep(0.2)
        before = len(answered)
        second = KeyholderThread(tmp_path, UID)
        until(lambda: len(answered) >= before + 25)
        enough.set()
        for future in futures:
            future.result()
    submit_when_up(tmp_path, "last")
    until(lambda: not recorder.loop._recorder.unsettled)
    note, _ = signed_entries(recorder)
    with recorder.engine.begin() as tx:
        rows = dict(tx.execute(select(LEDGER.entries.c.seq, LEDGER.entries.c.entry)).all())
        kept = dict(tx.execute(select(NOTES.c.serial, NOTES.c.output)).all())
    recorder.stop()
    second.stop()
    for serial, output, index in answered:
        assert output == f"{serial} beside".encode()
        assert f'"serial":"{serial}"'.encode() in rows[index]
        assert kept[str(index)] == output
    checkpoint = open_note(note, [verifier_key(ORIGIN, KEY, KeyType.LOG)])
    verify_log([rows[i] for i in range(checkpoint.size)], checkpoint, since=None, hashes=None, waypoints=())


def test_a_restarted_recorder_goes_on_with_a_keyholder_that_is_ahead_of_its_note(
    tmp_path: Path, keyholder: KeyholderThread
) -> None:
    first = RecorderThread(tmp_path, UID)
    submit_when_up(tmp_path, "one")
    first.stop()
    second = RecorderThread(tmp_path, UID)
    assert submit_when_up(tmp_path, "two") == 1
    second.stop()


def test_a_stopped_keyholder_means_busy_and_no_late_answer(
    tmp_path: Path, keyholder: KeyholderThread, recorder: RecorderThread
) -> None:
    submit_when_up(tmp_path, "first")
    keyholder.paused = True
    with client(tmp_path, UID) as front, pytest.raises(Busy):
        front.submit(act("lost"), timeout_s=RUNS_OUT_S)


def test_a_keyholder_that_dropped_a_batch_is_brought_up_to_date(
    tmp_path: Path, keyholder: KeyholderThread, recorder: RecorderThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit_when_up(tmp_path, "first")
    keyholder.paused = True
    with client(tmp_path, UID) as front, pytest.raises(Busy):
        front.submit(act("dropped"), timeout_s=RUNS_OUT_S)
    until(lambda: keyholder._taken)
    keyholder.drop_taken()
    monkeypatch.setattr(process, "BATCH_TIMEOUT_S", 0)
    until(lambda: not recorder.loop._in_flight)
    monkeypatch.setattr(process, "BATCH_TIMEOUT_S", PATIENCE_S)
    keyholder.paused = False
    assert submit_when_up(tmp_path, "next") == 2


def test_answers_are_stored_and_the_recorder_sleeps_while_the_keyholder_is_away(
    tmp_path: Path, keyholder: KeyholderThread, recorder: RecorderThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "FLUSH_AFTER_S", 10 * PATIENCE_S)
    submit_when_up(tmp_path, "first")
    keyholder.stop()
    assert recorder.recorder.unsettled
    recorder.loop._settle_by_s = 0
    with client(tmp_path, UID) as front, pytest.raises(Busy):
        front.submit(act("wakes it"))
    until(lambda: not recorder.recorder.unsettled)
    rarely(lambda: recorder.steps, every_s=RETRY_S, for_s=0.5)


def test_a_keyholder_is_shown_documents_that_no_frame_takes_together(
    tmp_path: Path, keyholder: KeyholderThread, recorder: RecorderThread
) -> None:
    submit_when_up(tmp_path, "first")
    keyholder.stop()
    size = MAX_FRAME_BYTES // 4
    recorder.documents = [Document(approval=RawItem(bytes([n])), manifest=bytes(size)) for n in range(5)]
    second = KeyholderThread(tmp_path, UID)
    submit_when_up(tmp_path, "next")
    second.stop()
    assert second.evaluator.documents == recorder.documents


def test_behind_a_slow_keyholder_the_recorder_sleeps_and_what_is_due_goes_first(
    tmp_path: Path, keyholder: KeyholderThread, recorder: RecorderThread
) -> None:
    submit_when_up(tmp_path, "first")
    until(lambda: not recorder.loop._in_flight)
    keyholder.paused = True

    def ask(serial: str) -> int:
        with client(tmp_path, UID) as front:
            return front.submit(act(serial), timeout_s=PATIENCE_S).index

    def in_flight(count: int) -> bool:
        return len(recorder.loop._in_flight) == count

    with ThreadPoolExecutor(MAX_IN_FLIGHT + 1) as pool:
        for number in range(MAX_IN_FLIGHT):
            pool.submit(ask, f"s{number}")
            until(partial(in_flight, number + 1))
        waiting = pool.submit(ask, "waits")
        until(lambda: len(recorder.loop._queue) == 1)
        recorder.service.due_once = [Alarm(what="due", detail="now")]
        time.sleep(DUE_EVERY_S)
        rarely(lambda: recorder.steps, every_s=RETRY_S, for_s=0.5)
        keyholder.paused = False
        assert waiting.result() == MAX_IN_FLIGHT + 2
    assert b'"alarm":"due"' in signed_entries(recorder)[1][MAX_IN_FLIGHT + 1]


def test_answers_are_stored_with_the_next_turn_and_by_themselves_only_when_none_comes(
    tmp_path: Path, recorder: RecorderThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit_when_up(tmp_path, "first")
    until(lambda: flushes(recorder) == 1)
    monkeypatch.setattr(process, "FLUSH_AFTER_S", 10 * PATIENCE_S)
    with client(tmp_path, UID) as front:
        for number in range(30):
            front.submit(act(f"s{number}"))
        assert flushes(recorder) == 1
        monkeypatch.setattr(process, "FLUSH_AFTER_S", 0.005)
        front.submit(act("last"))
    until(lambda: flushes(recorder) == 2)
    assert not recorder.recorder.unsettled


def flushes(recorder: RecorderThread) -> int:
    """Commits of answers alone so far."""
    text = recorder.recorder.metrics.exposition("r").decode()
    return int(text.split('r_stage_seconds_count{stage="flush"} ')[1].split()[0])
