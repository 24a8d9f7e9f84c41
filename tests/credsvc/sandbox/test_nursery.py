"""Where workers are made: what a machine that gives no process costs."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import NoReturn

import pytest

from credsvc.sandbox.kernel import LockdownError
from credsvc.sandbox.lockdown import Layers
from credsvc.sandbox.nursery import MAX_WORKERS, Nursery
from credsvc.sandbox.worker import restricted_language


@pytest.mark.parametrize("call", ["fork", "pipe"])
def test_a_machine_that_gives_no_process_costs_nothing_else(
    call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused() -> NoReturn:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    nursery = Nursery(Layers.without(frozenset()), restricted_language({}))
    before = sorted(Path("/proc/self/fd").iterdir())
    monkeypatch.setattr(os, call, refused)
    for _ in range(MAX_WORKERS + 1):
        with pytest.raises(LockdownError, match="make a process: "):
            nursery.make_spare()
    assert not nursery.has_spare
    assert sorted(Path("/proc/self/fd").iterdir()) == before
    assert len(nursery._free_uids) == (MAX_WORKERS if os.geteuid() == 0 else 0)
