"""Reading files: limits, and whose secrets are private."""

from __future__ import annotations

from pathlib import Path

import pytest

from ostiary.edge import files
from ostiary.errors import Misconfigured


def test_a_read_says_what_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with pytest.raises(Misconfigured, match="No such file"):
        files.read_limited(path, limit_bytes=10)
    path.write_bytes(b"x" * 11)
    with pytest.raises(Misconfigured, match="more than 10 bytes"):
        files.read_limited(path, limit_bytes=10)
    assert files.read_limited(path, limit_bytes=11) == b"x" * 11


def test_a_secret_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_bytes(b"x")
    path.chmod(0o640)
    with pytest.raises(Misconfigured, match="mode 640; a file with a secret must have mode 600"):
        files.read_private(path, limit_bytes=10)
    path.chmod(0o600)
    assert files.read_private(path, limit_bytes=10) == b"x"
