"""A manager as a process, the authority that it speaks to, and programs that claim from it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from keyutils import install
from tests.support.fake_ca import FakeCA
from tests.support.need import require_root
from tests.support.running_manager import ClaimingProgram, RunningManager, start_manager


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that other users may enter, unlike pytest's."""
    with tempfile.TemporaryDirectory(prefix="ostiary-") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


@pytest.fixture
def fake() -> Iterator[FakeCA]:
    fake = FakeCA()
    fake.start()
    yield fake
    fake.stop()


@pytest.fixture
def running(fake: FakeCA, open_directory: Path) -> Iterator[RunningManager]:
    running = start_manager(fake, open_directory)
    yield running
    running.stop()


@pytest.fixture
def upcall(running: RunningManager) -> None:
    """The manager is active and the kernel's upcall reaches it; skips the test where it can't."""
    require_root()
    missing = install.probe().missing
    if missing:
        pytest.skip("; ".join(missing))
    running.when_active()


@pytest.fixture
def start_program(running: RunningManager) -> Iterator[Callable[..., ClaimingProgram]]:
    """Starts programs, which end with the test."""
    programs: list[ClaimingProgram] = []

    def start(**options: Any) -> ClaimingProgram:
        programs.append(ClaimingProgram(running, **options))
        return programs[-1]

    yield start
    for each in programs:
        each.end()
