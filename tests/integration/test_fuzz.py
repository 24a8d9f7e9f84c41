"""A front withstands thousands of mutated requests; `python -m tests.support.fuzzing 1000000` asks more."""

from __future__ import annotations

import asyncio
import os
import secrets

import pytest

from tests.support.fuzzing import fuzz
from tests.support.strict_http import count_requests

pytestmark = pytest.mark.slow


def test_mutated_requests_find_no_fault_no_hang_and_no_growth(capsys: pytest.CaptureFixture[str]) -> None:
    """Another seed each time; it is told, and FUZZ_SEED repeats a run."""
    seed = int(os.environ.get("FUZZ_SEED", secrets.randbits(32)))
    told: list[str] = []
    asyncio.run(fuzz(6000, seed, told.append))
    with capsys.disabled():
        print(f"\nfuzzing: {told[0]}; {told[-1]}")  # noqa: T201 - a run that failed is repeated by its seed
    assert "gunicorn.asgi.parser.PythonProtocol" in told[0]


@pytest.mark.parametrize(
    ("data", "count"),
    [
        (b"GET / HTTP/1.1\r\n\r\n" * 3, 3),
        (b"GET / HTTP/1.1\r\nConnection: close\r\n\r\nGET / HTTP/1.1\r\n\r\n", 1),
        (b"POST / HTTP/1.1\r\nContent-Length: 20\r\n\r\nGET / HTTP/1.1\r\n\r\n", 0),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;a\r\n\r\n\n\r\n0\r\nA: b\r\n\r\n", 1),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", 0),
        (b"GET / HTTP/1.1\nHost: x\n\n", 0),
    ],
)
def test_its_judge_counts_what_is_in_order(data: bytes, count: int) -> None:
    assert count_requests(data) == count
