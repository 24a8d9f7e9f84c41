"""A manager as a process, the authority that it speaks to, and programs that claim from it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.fake_ca import FakeCA
from tests.support.running_manager import Actor, RunningManager, start_manager


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
def actor(running: RunningManager) -> Iterator[Callable[..., Actor]]:
    """Starts programs, which end with the test."""
    actors: list[Actor] = []

    def start(**options: Any) -> Actor:
        actors.append(Actor(running, **options))
        return actors[-1]

    yield start
    for each in actors:
        each.end()
