"""Files that share something are run by one process, side by side with the others (tests/conftest.py)."""

from __future__ import annotations

import re

import pytest

from tests.conftest import SHARING
from tests.support.repository import ROOT

# What a file's source shows where it uses what is shared.
USES = {
    "shared_ca": r"\bshared_ca\b",
    "shared_credentials": r"\bshared_credentials\b",
    # A manager registers itself, and a stub of one is registered; both leave.
    "request-key.d": r"\bRunningManager\b|\bStubManager\b|\bManagers\(|\bselftest\(\)",
}


@pytest.mark.parametrize("file", SHARING)
def test_what_is_said_to_share_is_there(file: str) -> None:
    assert (ROOT / file).is_file()


@pytest.mark.parametrize("shared", USES)
def test_who_shares_is_known_to_the_scheduler(shared: str) -> None:
    users = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "tests").rglob("test_*.py")
        if re.search(USES[shared], path.read_text("utf-8")) and path.name != "test_side_by_side.py"
    }
    assert users
    assert users - {file for file, named in SHARING.items() if named == shared} == set()
