"""Whether a connection reads: not while anybody has a reason against it."""

from __future__ import annotations

import asyncio


class Pausing:
    """The reasons of one connection; it reads until it has one."""

    def __init__(self) -> None:
        self._side: asyncio.Transport | None = None
        self._reasons: set[str] = set()

    @property
    def is_paused(self) -> bool:
        """Whether there is a reason."""
        return bool(self._reasons)

    def begin(self, side: asyncio.Transport) -> None:
        """Pause and resume this transport from now on."""
        self._side = side

    def end(self) -> None:
        """Read until the end, whatever reasons there are."""
        side, self._side = self._side, None
        if side is not None:
            side.resume_reading()

    def set(self, reason: str, *, is_paused: bool) -> None:
        """Note or forget a reason; the other reasons count as before."""
        was_paused = self.is_paused
        if is_paused:
            self._reasons.add(reason)
        else:
            self._reasons.discard(reason)
        if self._side is None or was_paused == self.is_paused:
            return
        if self.is_paused:
            self._side.pause_reading()
        else:
            self._side.resume_reading()
