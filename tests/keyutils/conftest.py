"""Fixtures for tests against the running kernel."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from keyutils import client, keyring

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def session() -> Iterator[keyring.KeySerial]:
    """An anonymous session keyring of this test's own."""
    try:
        serial = client.join_session()
    except keyring.KeyringError as exc:
        if exc.errno not in {errno.ENOSYS, errno.EPERM}:
            raise
        pytest.skip(f"needs the key retention service: {exc}")
    yield serial
    keyring.clear(serial)
