"""What the manager's process gives its parts: threads that the loop watches, and descriptors."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

import pytest

from certmgr.app import _in_thread
from tests.support.waiting import PATIENCE_S


class Part:
    """Runs until it is stopped, or for a moment only."""

    def __init__(self, *, runs_for_s: float = PATIENCE_S) -> None:
        self.runs_for_s = runs_for_s
        self.stopped = threading.Event()
        self.ended = threading.Event()

    def run(self) -> None:
        self.stopped.wait(self.runs_for_s)
        self.ended.set()

    def stop(self) -> None:
        self.stopped.set()


def test_a_part_that_ends_is_told_on_the_loop() -> None:
    """`ostiary.front.worker` ends a worker whose task has ended."""
    asyncio.run(asyncio.wait_for(_in_thread(Part(runs_for_s=0.01)), PATIENCE_S))


def test_a_part_is_stopped_with_the_loop_and_not_waited_for() -> None:
    part = Part()

    async def story() -> None:
        running = asyncio.create_task(_in_thread(part))
        await asyncio.sleep(0)
        running.cancel()
        await running

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(story())
    assert part.stopped.is_set()
    # Its thread ends after the loop, and nobody hears of it any more.
    assert part.ended.wait(PATIENCE_S)


@pytest.mark.parametrize(("hard", "room"), [(1024, 0), (2280, 1000)])
def test_watched_processes_leave_descriptors_to_connections(hard: int, room: int) -> None:
    """In a process of its own: only root could take the limit back."""
    script = (
        f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (256, {hard}))\n"
        "from certmgr.app import _room_for_pidfds\n"
        "print(_room_for_pidfds(), resource.getrlimit(resource.RLIMIT_NOFILE)[0])\n"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout == f"{room} {hard}\n"
