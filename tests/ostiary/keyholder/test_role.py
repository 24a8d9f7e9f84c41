"""The keyholder's end of its channel."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ostiary.edge.channel import Client
from ostiary.edge.frame import MAX_FRAME_BYTES
from ostiary.keyholder.client import decode_answer
from ostiary.keyholder.engine import Keyholder
from ostiary.keyholder.protocol import Done, Hello, Refusal, Result, encode_message
from ostiary.keyholder.recorder_socket import RecorderSocket
from ostiary.keyholder.role import answer_request
from tests.support.waiting import PATIENCE_S

UID = frozenset({os.getuid()})


class Verbose(Keyholder):
    """Answers with more than a channel takes."""

    def __init__(self) -> None:
        """It needs no keys."""

    def answer(self, body: bytes) -> Done:
        return Done(note=b"", results=(Result(output=bytes(MAX_FRAME_BYTES)),))


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    recorders = RecorderSocket(tmp_path / "k", recorder_uids=UID)
    stopped = threading.Event()

    def serve() -> None:
        while not stopped.is_set():
            for request in recorders.requests(0.02):
                answer_request(Verbose(), request)

    thread = threading.Thread(target=serve)
    thread.start()
    made = Client(tmp_path / "k", expected_uids=UID)
    yield made
    made.close()
    stopped.set()
    thread.join()
    recorders.close()


def test_an_answer_that_is_too_large_is_a_refusal_and_the_keyholder_goes_on(client: Client) -> None:
    for _ in range(2):
        answer = decode_answer(client.call(encode_message(Hello()), timeout_s=PATIENCE_S).body)
        assert isinstance(answer, Refusal)
        assert answer.reason.startswith("answer-too-large: ")
