"""Records between host and worker: lengths, nonces, outcomes."""

from __future__ import annotations

import pytest

from credsvc.sandbox import frames
from credsvc.sandbox.frames import Kind, Outcome

NONCE = bytes(range(16))


def test_a_request_comes_out_as_it_went_in() -> None:
    record = frames.pack_request(Kind.CALL, NONCE, b"body")
    assert frames.unpack_request(record) == (Kind.CALL, NONCE, b"body")


def test_a_request_longer_than_a_worker_reads_is_refused() -> None:
    limit = frames.MAX_REQUEST_BYTES - frames.HEADER_BYTES
    assert len(frames.pack_request(Kind.LOAD, NONCE, b"x" * limit)) == frames.MAX_REQUEST_BYTES
    with pytest.raises(ValueError, match="too long"):
        frames.pack_request(Kind.LOAD, NONCE, b"x" * (limit + 1))


def test_calls_come_out_as_they_went_in() -> None:
    items = [b'{"a":1}', b"{}", b'{"text":"\\n"}']
    assert frames.unpack_calls(frames.pack_calls("sign", items, gathered=16)) == (16, "sign", items)


def test_answers_come_out_as_they_went_in() -> None:
    answers = [(Outcome.DONE, b"{}"), (Outcome.RAISED, b""), (Outcome.DONE, b"[1]")]
    record = frames.pack_answers(NONCE, answers)
    assert frames.unpack_answers(record, NONCE, most=3) == answers
    assert frames.unpack_answers(frames.pack_answers(NONCE, answers[:1]), NONCE, most=3) == answers[:1]


@pytest.mark.parametrize(
    "record",
    [
        b"",
        NONCE,
        bytes(16) + b"d{}",
        NONCE[:-1] + b"\0d{}",
        NONCE + b"?{}",
        NONCE + b"d" + b"x" * frames.MAX_ANSWER_BYTES,
        NONCE + b"d{}\n",
        NONCE + b"\nd{}",
        NONCE + b"d{}\n{}",
        NONCE + b"x\nx\nx",
    ],
    ids=[
        "empty",
        "short",
        "other nonce",
        "almost the nonce",
        "unknown outcome",
        "too long",
        "empty second",
        "empty first",
        "unknown second outcome",
        "one more than asked for",
    ],
)
def test_refused_answers(record: bytes) -> None:
    with pytest.raises(ValueError, match=r"answer|valid Outcome"):
        frames.unpack_answers(record, NONCE, most=2)


def test_a_line_end_in_the_nonce_is_none_between_answers() -> None:
    nonce = b"\n" * 16
    assert frames.unpack_answers(nonce + b"x", nonce, most=1) == [(Outcome.RAISED, b"")]
