"""Texts that others wrote, as the command line shows them: without escapes, markup or reversed direction."""

from __future__ import annotations

import io
import json

import pytest

from ostiary.cli import output

HOSTILE = "a\x1b[8mb\x9b2Kc\rd\u202ee\x07"
SHOWN = r"a\x1b[8mb\x9b2Kc\rd\u202ee\x07"


def test_printable_text_lines_and_tabs_stay() -> None:
    assert output.plain("name\tGrüße ≥ 3\n") == "name\tGrüße ≥ 3\n"


def test_a_result_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    output.emit({}, human=f"first\n{HOSTILE}")
    output.note(HOSTILE)
    assert capsys.readouterr() == (f"first\n{SHOWN}\n", f"{SHOWN}\n")


def test_json_for_people_cannot_either_and_stays_json(capsys: pytest.CaptureFixture[str]) -> None:
    output.emit({"reason": HOSTILE})
    told = capsys.readouterr().out
    assert output.plain(told) == told
    assert json.loads(told) == {"reason": HOSTILE}


@pytest.mark.parametrize("text", ["[/x]/y", "[red]x[/red]", ":smile:"])
def test_a_tables_cell_is_no_markup(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    output.emit([], human=output.table([{"target": text}], ("target",)))
    assert text in capsys.readouterr().out


def test_a_tables_cell_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    output.emit([], human=output.table([{"target": HOSTILE}], ("target",)))
    assert SHOWN in capsys.readouterr().out


def test_a_bar_moves_with_each_run_and_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    runs: list[list[int]] = [[1, 2], [], [3]]
    assert list(output.track(runs, description="counting", total=3)) == [1, 2, 3]
    assert "counting" in terminal.getvalue()
    assert "100%" in terminal.getvalue()
