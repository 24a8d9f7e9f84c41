"""Deadlines of an exchange, and writes that leave together."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from ostiary.front.guarded_socket import ExchangeDeadline, GuardedSocket
from tests.support.waiting import PATIENCE_S, at_least


@pytest.fixture
def ends() -> Iterator[tuple[GuardedSocket, socket.socket]]:
    ours, theirs = socket.socketpair()
    guarded = GuardedSocket.adopt(ours, exchange_s=0.2)
    theirs.settimeout(PATIENCE_S)
    with guarded, theirs:
        yield guarded, theirs


def test_a_read_waits_until_the_deadline_and_not_at_all_without_one(
    ends: tuple[GuardedSocket, socket.socket],
) -> None:
    guarded, theirs = ends
    with pytest.raises(BlockingIOError):
        guarded.recv()
    guarded.setblocking(True)
    with at_least(0.2), pytest.raises(TimeoutError):
        for _ in range(100):
            theirs.send(b"x")  # a byte at a time
            guarded.recv(1)
            time.sleep(0.02)
    with pytest.raises(TimeoutError):
        guarded.recv()


def test_the_clock_of_the_writes_starts_at_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now_s)
    deadline = ExchangeDeadline(5)
    assert deadline.left_s() is None
    deadline.begin(blocking=True)
    now_s += 6
    with pytest.raises(TimeoutError):
        deadline.left_s()
    deadline.begin_writing()
    assert deadline.left_s() == 5
    now_s += 6
    deadline.begin_writing()
    with pytest.raises(TimeoutError):
        deadline.left_s()


def test_writes_leave_together_when_flushed_read_or_sent(ends: tuple[GuardedSocket, socket.socket]) -> None:
    guarded, theirs = ends
    theirs.setblocking(False)
    guarded.sendall(b"head")
    guarded.sendall(b"body")
    with pytest.raises(BlockingIOError):
        theirs.recv(100)
    guarded.flush()
    assert theirs.recv(100) == b"headbody"
    guarded.sendall(b"question")
    with pytest.raises(BlockingIOError):
        guarded.recv()
    assert theirs.recv(100) == b"question"
    guarded.sendall(b"one ")
    assert guarded.send(b"two") == 3
    assert theirs.recv(100) == b"one two"


def test_a_records_worth_leaves_by_itself(ends: tuple[GuardedSocket, socket.socket]) -> None:
    guarded, theirs = ends
    guarded.sendall(b"x" * (16 << 10))
    assert len(theirs.recv(1 << 20, socket.MSG_DONTWAIT)) == 16 << 10
