"""Services that several files share: each takes seconds to start, and no file changes what others see.

`tests/conftest.py` gives the files that share a service to one process. A test that kills, loads, restarts or
re-configures its service, or counts what it has, runs one of its own.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.ca_service import RunningCA, running_ca
from tests.support.credential_service import Service, running


@pytest.fixture(scope="session")
def shared_ca() -> Iterator[RunningCA]:
    with running_ca() as ca:
        yield ca


@pytest.fixture(scope="session")
def shared_credentials() -> Iterator[Service]:
    """With both shipped modules, a credential of each, and a policy."""
    with running() as service:
        yield service
