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


def test_an_answer_comes_out_as_it_went_in() -> None:
    record = frames.pack_answer(NONCE, Outcome.DONE, b"{}")
    assert frames.unpack_answer(record, NONCE) == (Outcome.DONE, b"{}")


@pytest.mark.parametrize(
    "record",
    [
        b"",
        NONCE,
        bytes(16) + b"d{}",
        NONCE[:-1] + b"\0d{}",
        NONCE + b"?{}",
        NONCE + b"d" + b"x" * frames.MAX_ANSWER_BYTES,
    ],
    ids=["empty", "short", "other nonce", "almost the nonce", "unknown outcome", "too long"],
)
def test_refused_answers(record: bytes) -> None:
    with pytest.raises(ValueError, match=r"answer|valid Outcome"):
        frames.unpack_answer(record, NONCE)
