"""Fixtures for tests against the running kernel."""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from keyutils import agent_keys, install, keyring
from keyutils.keyring import KeySerial
from keyutils.layout import Layout
from tests.support.upcall import LAYOUT, Managers, StubManager


@pytest.fixture
def session() -> Iterator[KeySerial]:
    """An anonymous session keyring of this test's own."""
    try:
        serial = agent_keys.join_session()
    except keyring.KeyringError as exc:
        if exc.errno not in {errno.ENOSYS, errno.EPERM}:
            raise
        pytest.skip(f"needs the key retention service: {exc}")
    yield serial
    keyring.clear(serial)


@pytest.fixture
def start(session: KeySerial, tmp_path: Path) -> Iterator[Callable[..., StubManager]]:
    """Start stub managers and register them with a handler that only this process's requests reach."""
    status = install.probe(LAYOUT)
    if status.missing:
        pytest.skip("; ".join(status.missing))
    managers = Managers(tmp_path)
    yield managers.start
    managers.stop()


@pytest.fixture
def agent() -> str:
    return str(uuid.uuid4())


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """The machine's layout, in a directory: for what happens to files, without the kernel."""
    if os.geteuid() != 0:
        pytest.skip(f"needs root (this is uid {os.geteuid()})")
    (tmp_path / "request-key.d").mkdir()
    made = Layout(
        request_key=Path("/bin/true"),
        conf=tmp_path / "request-key.d/ostiary.conf",
        handler=tmp_path / "libexec/ostiary/request-key",
        lasting=tmp_path / "etc/ostiary/managers.d",
        passing=tmp_path / "run/ostiary-managers",
    )
    missing = install.probe(made).missing
    if missing:
        pytest.skip("; ".join(missing))
    return made
