"""The high-water mark's file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ostiary.errors import Misconfigured
from ostiary.keyholder.high_water import FileHighWater
from ostiary.keyholder.witness import Mark

MARK = Mark(size=5, root=b"\x05" * 32)


def test_a_mark_is_what_was_stored_last(tmp_path: Path) -> None:
    high_water = FileHighWater(tmp_path / "mark")
    assert high_water.load() is None
    high_water.store(Mark(size=4, root=b"\x04" * 32))
    high_water.store(MARK)
    assert FileHighWater(tmp_path / "mark").load() == MARK


def test_the_first_write_of_a_process_is_synced_and_no_later_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.fstat(fd).st_size))
    high_water = FileHighWater(tmp_path / "mark")
    high_water.store(MARK)
    high_water.store(MARK)
    assert synced == [48]


@pytest.mark.parametrize("damaged", [b"osthw-1\n", b"\x00" * 48, b"osthw-1\n" + b"\x00" * 41])
def test_a_damaged_mark_is_said_to_be_one(tmp_path: Path, damaged: bytes) -> None:
    (tmp_path / "mark").write_bytes(damaged)
    with pytest.raises(Misconfigured, match="is damaged"):
        FileHighWater(tmp_path / "mark").load()
