"""How an edge asks the recorder: what it gets, and what it raises for each other answer."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ostiary.edge.frame import Status
from ostiary.edge.hub import Hub, Request
from ostiary.errors import Busy, Forbidden, InternalFault
from ostiary.recorder.client import AsyncRecorderClient, RecorderClient
from ostiary.work.answer import Recorded, Refused, encode_answer
from ostiary.work.item_encoding import encode_item
from ostiary.work.reports import Alarm
from tests.support.waiting import PATIENCE_S, RUNS_OUT_S

UID = frozenset({os.getuid()})
ITEM = Alarm(what="test", detail="one")
RECORDED = Recorded(index=3, output=b"signature")


class AnsweringRecorder:
    """A recorder's channel in a thread; `answer` is what it says next, None for nothing at all."""

    def __init__(self, path: Path) -> None:
        self.answer: tuple[Status, bytes] | None = (Status.OK, encode_answer(RECORDED))
        self.bodies: list[bytes] = []
        self._hub = Hub()
        self._hub.listen(path, channel="front", allowed_uids=UID)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopped.is_set():
            for event in self._hub.poll(0.01):
                if isinstance(event, Request):
                    self.bodies.append(event.body)
                    if self.answer is not None:
                        event.reply(*self.answer)
        self._hub.close()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[AnsweringRecorder]:
    recorder = AnsweringRecorder(tmp_path / "s")
    yield recorder
    recorder.stop()


Submit = Callable[[float], Recorded]
"""Submits `ITEM`, and waits so long (s)."""


def submit_from_a_thread(path: Path, timeout_s: float) -> Recorded:
    client = RecorderClient(path, expected_uids=UID)
    try:
        return client.submit(ITEM, timeout_s=timeout_s)
    finally:
        client.close()


def submit_from_a_loop(path: Path, timeout_s: float) -> Recorded:
    async def run() -> Recorded:
        client = AsyncRecorderClient(path, expected_uids=UID)
        try:
            return await client.submit(ITEM, timeout_s=timeout_s)
        finally:
            client.close()

    return asyncio.run(run())


@pytest.fixture(params=[submit_from_a_thread, submit_from_a_loop])
def submit(request: pytest.FixtureRequest, recorder: AnsweringRecorder, tmp_path: Path) -> Submit:
    return lambda timeout_s: request.param(tmp_path / "s", timeout_s)


def test_an_item_travels_as_it_was_encoded_and_its_record_comes_back(
    submit: Submit, recorder: AnsweringRecorder
) -> None:
    assert submit(PATIENCE_S) == RECORDED
    assert recorder.bodies == [encode_item(ITEM)]


def test_a_denial_is_forbidden(submit: Submit, recorder: AnsweringRecorder) -> None:
    denied = Refused(by="recorder", rule="token-spent", reason="it was spent", index=4)
    recorder.answer = (Status.REFUSED, encode_answer(denied))
    with pytest.raises(Forbidden) as caught:
        submit(PATIENCE_S)
    assert caught.value.rule == "token-spent"


def test_a_busy_recorder_is_busy(submit: Submit, recorder: AnsweringRecorder) -> None:
    recorder.answer = (Status.BUSY, b"")
    with pytest.raises(Busy, match="busy or its keyholder is away"):
        submit(PATIENCE_S)


def test_a_silent_recorder_is_busy_at_the_deadline(submit: Submit, recorder: AnsweringRecorder) -> None:
    recorder.answer = None
    with pytest.raises(Busy, match="in time"):
        submit(RUNS_OUT_S)


@pytest.mark.parametrize("status", [Status.OK, Status.REFUSED])
def test_a_malformed_answer_is_our_fault(submit: Submit, recorder: AnsweringRecorder, status: Status) -> None:
    recorder.answer = (status, b"\xc1")
    with pytest.raises(InternalFault, match="malformed recorder response"):
        submit(PATIENCE_S)
