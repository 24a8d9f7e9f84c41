"""`serve --recovery`: a lost key comes back from its copy, and nothing replaces another key."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from ostiary.cli.recovery import recover, recovery_options
from ostiary.cli.secret_argument import SECRET
from ostiary.edge.kek import load_kek
from ostiary.edge.kek_creation import RecoveryCopy, create_kek
from ostiary.errors import Conflict, OstiaryError
from ostiary.secret import Secret

APPLICATION, SERVICE = "shop.example", "ca"
PASSPHRASE = "correct horse"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return tmp_path / "recovery"


@pytest.fixture
def made(tmp_path: Path, copy: Path) -> bytes:
    """A key in a file store, and its recovery copy."""
    recovery = RecoveryCopy(path=copy, ask=lambda: PASSPHRASE)
    return create_kek("file:kek", APPLICATION, SERVICE, directory=tmp_path, recovery=recovery)


def bring_back(directory: Path, copy: Path, passphrase: str = PASSPHRASE) -> None:
    secret = Secret(passphrase.encode())
    recover("file:kek", APPLICATION, SERVICE, directory=directory, copy=copy, passphrase=secret)


def test_a_lost_key_comes_back(
    tmp_path: Path, copy: Path, made: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "kek").unlink()
    bring_back(tmp_path, copy)
    assert load_kek("file:kek", APPLICATION, SERVICE, directory=tmp_path) == made
    output = "".join(capsys.readouterr())
    assert "'file:kek'" in output
    assert made.hex() not in output


def test_a_store_that_has_the_key_stays_as_it_is(tmp_path: Path, copy: Path, made: bytes) -> None:
    bring_back(tmp_path, copy)
    assert load_kek("file:kek", APPLICATION, SERVICE, directory=tmp_path) == made


def test_another_key_is_not_replaced(tmp_path: Path, copy: Path, made: bytes) -> None:
    (tmp_path / "kek").unlink()
    other = create_kek("file:kek", APPLICATION, SERVICE, directory=tmp_path)
    with pytest.raises(Conflict):
        bring_back(tmp_path, copy)
    assert load_kek("file:kek", APPLICATION, SERVICE, directory=tmp_path) == other != made


def test_a_wrong_passphrase_restores_nothing(tmp_path: Path, copy: Path, made: bytes) -> None:
    (tmp_path / "kek").unlink()
    with pytest.raises(OstiaryError) as refused:
        bring_back(tmp_path, copy, "wrong horse")
    assert "wrong horse" not in refused.value.message
    assert not (tmp_path / "kek").exists()
    assert made


def test_the_options_are_a_file_and_a_secret() -> None:
    @click.command()
    @recovery_options
    def serve(recovery: Path | None, recovery_passphrase: Secret | None) -> None:
        given = None if recovery_passphrase is None else recovery_passphrase.reveal().decode()
        click.echo(f"{recovery} {given}")

    runner = CliRunner()
    assert runner.invoke(serve, []).output == "None None\n"
    assert runner.invoke(serve, ["--recovery", "/r"]).output == "/r None\n"
    refused = runner.invoke(serve, ["--recovery", "/r", "--recovery-passphrase", "hunter2"])
    assert refused.exit_code == 2
    assert "hunter2" not in refused.output
    option = next(option for option in serve.params if option.name == "recovery_passphrase")
    assert option.type is SECRET
