"""SIGTERM as a descriptor: a loop finishes the work in hand, then sees that it was asked to stop.

The keyholder has none: whatever it did when it was ended, its recorder shows it again.
"""

from __future__ import annotations

import os
import signal
from types import FrameType


class StopSignal:
    """SIGTERM and SIGINT as a descriptor: `hub.watch(stop.fd, name="stop")`; only for the main thread."""

    def __init__(self) -> None:
        # A descriptor, because a flag would not wake a loop that sleeps: Python resumes an interrupted wait
        # by itself (PEP 475).
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    @property
    def received(self) -> bool:
        """Whether a signal came; stays true."""
        # Reading takes the count away, so it is put back for whoever asks next.
        try:
            count = os.eventfd_read(self.fd)
        except BlockingIOError:
            return False
        os.eventfd_write(self.fd, count)
        return True

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        os.eventfd_write(self.fd, 1)
