"""No read of a store is given up for a machine that is busy with other tests."""

from __future__ import annotations

import pytest

from credsvc.front import shared_reads
from tests.support.waiting import PATIENCE_S


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests of giving up set a patience of their own."""
    monkeypatch.setattr(shared_reads, "PATIENCE_S", PATIENCE_S)
