"""An operator's verbs over an empty store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.credential_decisions import store_at
from tests.support.credential_operator import OperatorVerbs


@pytest.fixture
def operator(tmp_path: Path) -> Iterator[OperatorVerbs]:
    engine = store_at(tmp_path)
    yield OperatorVerbs(engine)
    engine.dispose()
