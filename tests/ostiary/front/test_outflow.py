"""What is to be sent leaves in pieces, as it was, no sooner than it can, and an end is said once."""

from __future__ import annotations

import asyncio
from typing import Any

from ostiary.front.outflow import Outflow
from ostiary.front.tls import RECORD_BYTES


class Side(asyncio.Transport):
    """Takes what it is given; what the kernel has not taken is what `kept_bytes` says."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.kept_bytes = 0
        self.is_ended = False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.high_bytes = high

    def write(self, data: Any) -> None:
        self.written.append(data)

    def get_write_buffer_size(self) -> int:
        return self.kept_bytes

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.is_ended = True

    def is_closing(self) -> bool:
        return False


def test_pieces_have_a_record_each_and_keep_their_order() -> None:
    side = Side()
    out = Outflow(side, None)
    data = bytes(range(256)) * 150
    out.add(data)
    out.add(b"tail")
    assert out.waits
    out.pump()
    assert out.waiting_bytes == 0
    assert b"".join(side.written) == data + b"tail"
    assert max(map(len, side.written)) == RECORD_BYTES


def test_a_blocked_socket_is_handed_nothing() -> None:
    side = Side()
    out = Outflow(side, None)
    out.is_blocked = True
    out.add(b"x" * 100)
    out.pump()
    assert side.written == []
    assert out.waiting_bytes == 100
    out.is_blocked = False
    out.pump()
    assert out.waiting_bytes == 0


def test_what_was_delivered_is_counted_from_a_beginning() -> None:
    side = Side()
    out = Outflow(side, None)
    out.add(b"x" * 100)
    out.pump()
    side.kept_bytes = 60
    out.begin_delivery()
    side.kept_bytes = 10
    assert out.delivered_bytes() == 50
    assert out.delivered_bytes() == 0


def test_what_is_dropped_is_not_sent() -> None:
    side = Side()
    out = Outflow(side, None)
    out.add(b"x")
    out.drop()
    out.pump()
    assert (side.written, out.waiting_bytes) == ([], 0)
    out.end()
    assert side.is_ended
