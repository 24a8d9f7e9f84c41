"""`ostiary module`: a module is tried as the service would run it; the exit code tells a failure."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ostiary.cli.root import run
from tests.support.operator_verbs import answer_verbs


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "provider-hmac"
    assert run(["module", "new", str(made)]) == 0
    return made


def _selftest(folder: Path, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, dict[str, object]]:
    capsys.readouterr()
    code = run(["--json", "module", "selftest", str(folder), *more])
    return code, json.loads(capsys.readouterr().out)


@pytest.mark.slow
def test_a_new_module_passes_its_selftest(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, told = _selftest(folder, capsys)
    assert (code, told["approvable"], told["vectors"], told["failed"]) == (0, True, 1, [])


@pytest.mark.slow
def test_a_wrong_formula_fails_its_vectors(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = folder / "manifest.toml"
    manifest.write_text(manifest.read_text().replace("PROVIDER-V1", "PROVIDER-V2"))
    code, told = _selftest(folder, capsys)
    assert (code, told["failed"]) == (1, ["a GET"])


@pytest.mark.slow
def test_a_formula_that_releases_its_secret_is_not_approvable(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = folder / "manifest.toml"
    manifest.write_text(
        manifest.read_text().replace("release header.x-key = @key_id", "release header.x-key = !secret_key")
    )
    code, told = _selftest(folder, capsys)
    assert (code, told["approvable"]) == (1, False)


def test_what_is_in_use_is_told_when_it_is_another_version(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = {"state": "proposed", "manifest": "m", "source": "s", "active_module_digest": "ab" * 32}
    answer_verbs(monkeypatch, module_show=shown)
    assert run(["module", "show", "gogrid"]) == 0
    told = capsys.readouterr()
    assert told.out.startswith("proposed")
    assert "another version is in use: its code is abababababababab..." in told.err


def test_a_source_that_is_no_text_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "module.py").write_bytes(b"\xff")
    assert run(["--json", "module", "selftest", str(folder)]) == 1
    assert json.loads(capsys.readouterr().err)["detail"] == "module.py is not UTF-8"
