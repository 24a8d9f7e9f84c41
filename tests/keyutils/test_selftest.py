"""The one-shot trial of the upcall, and what it says when something is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from keyutils import install, keyring
from keyutils.layout import private_layout
from keyutils.selftest import selftest

if TYPE_CHECKING:
    from keyutils.keyring import KeySerial


def test_upcall_works_here_and_leaves_nothing(session: KeySerial) -> None:
    layout = private_layout()
    missing = install.probe(layout).missing
    if missing:
        pytest.skip("; ".join(missing))
    assert selftest() is None
    left = (layout.conf, layout.handler.parent, layout.lasting, layout.passing)
    assert not [path for path in left if path.exists()]
    assert keyring.read_keyring(session) == []


def test_a_failure_names_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install, "probe", lambda _: install.Status(missing=("needs root",), absent=()))
    assert selftest() == "needs root"
