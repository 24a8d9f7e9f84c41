"""Stand-ins for a recorder, for fronts on an event loop."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from ostiary.recorder.client import RecorderPort
from ostiary.work.answer import Recorded
from ostiary.work.item import Item


@dataclass(frozen=True)
class AwaitedRecorder:
    """Any stand-in for a recorder, as an `AsyncRecorderPort`: its caller is suspended, as over a channel."""

    recorder: RecorderPort

    async def submit(self, item: Item) -> Recorded:
        await asyncio.sleep(0)
        return self.recorder.submit(item)
