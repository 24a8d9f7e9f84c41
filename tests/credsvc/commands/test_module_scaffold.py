"""The scaffold: a module that is approvable and right as it is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from credsvc.commands.module_scaffold import write_scaffold
from credsvc.formula.manifest_toml import parse_manifest
from credsvc.formula.report import report_manifest
from credsvc.formula.selftest import build_plain_runner, parse_vectors, run
from ostiary.errors import BadInput, Conflict


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_scaffold(tmp_path / "provider-hmac")
    return tmp_path / "provider-hmac"


def test_what_is_written_is_approvable_and_its_vector_comes_out_right(folder: Path) -> None:
    manifest = parse_manifest((folder / "manifest.toml").read_bytes())
    assert manifest.name == "provider-hmac"
    assert report_manifest(manifest).findings == ()
    vectors = [parse_vectors((folder / "vectors" / "own.json").read_bytes())]
    runner = build_plain_runner((folder / "module.py").read_text())
    (result,) = run(manifest, runner, vectors, is_traced=False)
    assert (result.passed, result.message) == (True, "")


def test_the_vector_does_not_come_from_the_engine_under_test(folder: Path) -> None:
    assert json.loads((folder / "vectors" / "own.json").read_text())["check"] == "Python's hmac"


def test_nothing_is_overwritten(folder: Path) -> None:
    before = (folder / "module.py").read_bytes()
    with pytest.raises(Conflict):
        write_scaffold(folder)
    assert (folder / "module.py").read_bytes() == before


@pytest.mark.parametrize("name", ["Bad Name", "1st", "a" * 64, "a_b"])
def test_a_folder_that_cannot_be_a_modules_name_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput):
        write_scaffold(tmp_path / name)
    assert not (tmp_path / name).exists()
