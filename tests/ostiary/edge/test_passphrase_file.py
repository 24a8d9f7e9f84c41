"""A passphrase from a file: private, or refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from ostiary.edge.passphrase_file import FILE_VARIABLE, passphrase_from_file
from ostiary.errors import Misconfigured


def test_it_is_read_without_its_newline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "passphrase"
    file.write_text("correct horse battery staple\n")
    file.chmod(0o600)
    monkeypatch.setenv(FILE_VARIABLE, str(file))
    assert passphrase_from_file() == "correct horse battery staple"


def test_a_file_that_others_may_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "passphrase"
    file.write_text("correct horse battery staple")
    file.chmod(0o640)
    monkeypatch.setenv(FILE_VARIABLE, str(file))
    with pytest.raises(Misconfigured, match="600") as caught:
        passphrase_from_file()
    assert "horse" not in caught.value.message


def test_without_a_file_the_operator_is_told_which_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(FILE_VARIABLE, raising=False)
    with pytest.raises(Misconfigured, match=FILE_VARIABLE):
        passphrase_from_file()
