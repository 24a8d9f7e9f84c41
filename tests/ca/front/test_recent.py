"""A row is kept for a moment and no longer; what changed meanwhile shows by then, and what is not active at
once.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from ca.front.recent import MAX_ROWS, RECENT_S, RecentRows
from ca.recorder.issuing import first_certificate
from ca.store.rows import CertificateRow
from ostiary.timestamp import EpochSeconds
from tests.support.ca_authority import AuthorityForTests
from tests.support.clock import ClockForTests

ROW = first_certificate(AuthorityForTests().prepared(), now_s=EpochSeconds(1), lifetime_s=7200)


@dataclass
class Rows:
    """A store's rows, and which of them were read."""

    rows: dict[str, CertificateRow] = field(default_factory=lambda: {ROW.serial: ROW})
    clock: ClockForTests = field(default_factory=ClockForTests)
    reads: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.recent = RecentRows(self.read, monotonic_ns=self.clock.monotonic_ns)

    def read(self, serial: str) -> CertificateRow | None:
        self.reads.append(serial)
        return self.rows.get(serial)

    def change(self, **changes: Any) -> None:
        self.rows[ROW.serial] = replace(self.rows[ROW.serial], **changes)

    def status(self) -> str:
        row = self.recent.certificate(ROW.serial)
        return "none" if row is None else row.status


def test_it_is_read_once_a_moment() -> None:
    store = Rows()
    for _ in range(25):
        assert store.recent.certificate(ROW.serial) is ROW
        store.clock.later(seconds=RECENT_S / 10)
    assert len(store.reads) == 3


@pytest.mark.parametrize("status", ["revoked", "superseded"])
def test_an_end_shows_after_a_moment_however_often_it_was_asked(status: str) -> None:
    store = Rows()
    assert store.status() == "active"
    store.change(status=status)
    seen = []
    for _ in range(9):
        seen.append(store.status())
        store.clock.later(seconds=RECENT_S / 8)
    assert seen == ["active"] * 8 + [status]


@pytest.mark.parametrize("status", ["pending", "superseded", "revoked"])
def test_what_is_not_active_is_read_every_time(status: str) -> None:
    store = Rows()
    store.change(status=status)
    assert (store.status(), store.status()) == (status, status)
    store.change(status="active")
    assert store.status() == "active"
    assert len(store.reads) == 3


def test_nobody_is_remembered_as_nobody() -> None:
    store = Rows(rows={})
    assert store.recent.certificate(ROW.serial) is None
    store.rows[ROW.serial] = ROW
    assert store.recent.certificate(ROW.serial) is ROW


def test_one_is_not_taken_for_another() -> None:
    other = replace(ROW, serial="0b")
    store = Rows(rows={ROW.serial: ROW, "0b": other})
    assert store.recent.certificate(ROW.serial) is ROW
    assert store.recent.certificate("0b") is other
    assert store.recent.certificate(ROW.serial) is ROW
    assert store.reads == [ROW.serial, "0b"]


def test_it_does_not_grow_without_end() -> None:
    store = Rows(rows={str(n): replace(ROW, serial=str(n)) for n in range(MAX_ROWS + 1)})
    for serial in store.rows:
        store.recent.certificate(serial)
    assert len(store.recent._kept) <= MAX_ROWS
    store.recent.certificate(str(MAX_ROWS))
    assert len(store.reads) == MAX_ROWS + 1
