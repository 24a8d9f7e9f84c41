"""The command line as a contract: exit codes, options at every level, lazy groups, errors in text
and JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from ostiary.cli import invocation, output
from ostiary.cli import root as command_line
from ostiary.errors import BadInput, Busy, Forbidden, OstiaryError
from tests.support.need import require_tool

SAMPLE = "tests_sample_commands"


@click.group()
def sample() -> None:
    """A group as another file would write it, without --home and --json."""


@sample.group()
def token() -> None:
    """A group within it."""


@token.command()
def create() -> None:
    output.emit({"id": "t1"}, human="made t1")


@token.command()
def where() -> None:
    output.emit(str(invocation.home()))


@sample.command()
@click.argument("kind")
def refuse(kind: str) -> None:
    errors: dict[str, OstiaryError] = {
        "input": BadInput("bad node 'x y'", field="node"),
        "policy": Forbidden("not yours", rule="no-use"),
        "busy": Busy("full"),
    }
    if kind == "abort":
        raise click.Abort
    raise errors[kind]


@pytest.fixture(autouse=True)
def sample_group(monkeypatch: pytest.MonkeyPatch) -> None:
    table = command_line.GROUPS | {
        "sample": command_line.Entry(target=f"{__name__}:sample", help="A sample."),
        "absent": command_line.Entry(target="ostiary.cli.no_such_file:group", help="Not installed."),
        "wanting": command_line.Entry(target=f"{SAMPLE}:group", help="Needs what is not there."),
    }
    monkeypatch.setattr(command_line.root, "table", table)
    monkeypatch.delenv(invocation.HOME_VARIABLE, raising=False)


def test_help_names_every_group_without_importing_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.run(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in command_line.GROUPS)
    code = (
        "import sys, ostiary.cli.root as r; r.run(['--help']); "
        "print([m for m in sys.modules if m in {'rich', 'ca', 'falcon'}])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    "argv",
    [
        ["--json", "sample", "token", "create"],
        ["sample", "--json", "token", "create"],
        ["sample", "token", "create", "--json"],
    ],
)
def test_json_is_taken_at_every_level(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.run(argv) == 0
    assert json.loads(capsys.readouterr().out) == {"id": "t1"}


def test_without_json_a_person_reads_text(capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.run(["sample", "token", "create"]) == 0
    assert capsys.readouterr().out == "made t1\n"


def test_the_innermost_home_wins_over_the_outer_and_the_environment(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(invocation.HOME_VARIABLE, "/e")
    assert (
        command_line.run(["--json", "--home", "/outer", "sample", "token", "where", "--home", "/inner"]) == 0
    )
    assert command_line.run(["--json", "--home", "/outer", "sample", "token", "where"]) == 0
    assert command_line.run(["--json", "sample", "token", "where"]) == 0
    assert capsys.readouterr().out.split() == ['"/inner"', '"/outer"', '"/e"']


def test_no_home_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.run(["sample", "token", "where"]) == 2
    assert "OSTIARY_HOME" in capsys.readouterr().err


@pytest.mark.parametrize(
    "argv", [["no-such"], ["sample", "token", "create", "--no-such"], ["sample", "refuse"]]
)
def test_wrong_usage_is_exit_2_and_nothing_on_stdout(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command_line.run(argv) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err


def test_usage_errors_are_problem_documents_with_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.run(["--json", "sample", "refuse"]) == 2
    assert json.loads(capsys.readouterr().err)["type"] == "urn:ostiary:problem:usage"


def test_a_refusal_is_exit_1_and_a_problem_document_with_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.run(["sample", "refuse", "policy", "--json"]) == 1
    assert json.loads(capsys.readouterr().err) == {
        "type": "urn:ostiary:problem:forbidden",
        "title": "Not permitted",
        "status": 403,
        "detail": "not yours",
        "rule": "no-use",
    }


@pytest.mark.parametrize(
    ("kind", "lines"),
    [
        ("input", ["error: bad node 'x y'", "  field: node"]),
        ("policy", ["error: not yours", "  rule: no-use", "  next: ask the operator, naming the rule"]),
        ("abort", ["stopped"]),
    ],
)
def test_errors_are_readable(kind: str, lines: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.run(["sample", "refuse", kind]) == 1
    assert capsys.readouterr().err.splitlines() == lines


def test_busy_says_what_to_do_next(capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.run(["sample", "refuse", "busy"]) == 1
    assert "next: try again" in capsys.readouterr().err


def test_a_missing_part_is_an_error_only_when_called(capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.run(["absent"]) == 1
    assert "'ostiary absent' is not part of this installation" in capsys.readouterr().err


def test_a_missing_dependency_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / f"{SAMPLE}.py").write_text("import no_such_package")
    monkeypatch.syspath_prepend(tmp_path)
    assert command_line.run(["wanting"]) == 1
    assert "needs the Python package 'no_such_package'" in capsys.readouterr().err


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    bash = require_tool("bash")
    command = f"set -o pipefail; {sys.executable} -m ostiary.cli --help | true"
    done = subprocess.run(
        [bash, "-c", command], capture_output=True, text=True, check=False, env=dict(os.environ)
    )
    assert "Traceback" not in done.stderr


def test_the_installed_command_says_its_version() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ostiary.cli", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("ostiary ")


def test_rows_are_drawn_and_progress_keeps_silent_off_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"serial_number": "0a", "status": None}]
    output.emit(rows, human=output.table(rows, ("serial_number", "status")))
    shown = capsys.readouterr()
    assert "serial number" in shown.out
    assert "0a" in shown.out
    assert "None" not in shown.out
    assert list(output.track([[1, 2], [3]], description="counting", total=3)) == [1, 2, 3]
    assert capsys.readouterr().err == ""


def test_notes_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    output.note("starting")
    assert capsys.readouterr() == ("", "starting\n")
