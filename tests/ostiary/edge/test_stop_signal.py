"""SIGTERM as a descriptor."""

from __future__ import annotations

import os
import select
import signal

from ostiary.edge.stop_signal import StopSignal


def test_a_stop_is_heard_by_a_loop_and_remembered() -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        stop = StopSignal()
        quiet = stop.received
        assert not quiet
        os.kill(os.getpid(), signal.SIGTERM)
        assert select.select([stop.fd], [], [], 1)[0]
        assert [stop.received, stop.received] == [True, True]
        os.close(stop.fd)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
