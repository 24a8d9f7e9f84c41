"""Files: whole or not at all, private from the first moment."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ostiary.edge import durable_files
from ostiary.errors import Misconfigured


def test_a_write_replaces_content_and_mode_whatever_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "file"
    before = os.umask(0o777)
    try:
        durable_files.write_atomic(path, b"one", mode=0o600)
        durable_files.write_atomic(path, b"two", mode=0o644)
    finally:
        os.umask(before)
    assert path.read_bytes() == b"two"
    assert path.stat().st_mode & 0o777 == 0o644
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("call", ["write", "fsync"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = tmp_path / "file"
    durable_files.write_atomic(path, b"old", mode=0o600)

    def fail(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(OSError, match="No space"):
            durable_files.write_atomic(path, b"new", mode=0o600)
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_directory_is_made_private_or_found_so(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b"
    durable_files.make_directory(path)
    durable_files.make_directory(path)
    assert path.stat().st_mode & 0o777 == 0o700
    path.chmod(0o755)
    with pytest.raises(Misconfigured, match="mode 755, wanted 700"):
        durable_files.make_directory(path)
    (tmp_path / "link").symlink_to(path)
    with pytest.raises(Misconfigured, match="not a directory"):
        durable_files.make_directory(tmp_path / "link")
