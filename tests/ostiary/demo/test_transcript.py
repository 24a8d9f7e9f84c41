"""The demonstration's transcript: what holds is counted, and what does not ends it, in words."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from ostiary.demo.transcript import CheckFailed, Transcript


@pytest.fixture
def printed() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def transcript(printed: io.StringIO) -> Transcript:
    return Transcript(Console(file=printed, width=200, color_system=None))


def test_steps_are_numbered_and_checks_counted(transcript: Transcript, printed: io.StringIO) -> None:
    with transcript.step("A certificate authority starts"):
        transcript.check(True, "six processes run")
    with transcript.step("A node is bootstrapped"):
        transcript.tell("by the socket")
        transcript.check(True, "it has a certificate")
    transcript.finish()
    text = printed.getvalue()
    assert " 1. A certificate authority starts" in text
    assert " 2. A node is bootstrapped" in text
    assert transcript.checks == 2
    assert "2 checks, all true" in text


def test_the_first_check_that_fails_ends_it(transcript: Transcript, printed: io.StringIO) -> None:
    with (
        pytest.raises(CheckFailed, match="step 1 of the demonstration failed; it is not true that it runs"),
        transcript.step("A service starts"),
    ):
        transcript.check(False, "it runs")
    assert transcript.checks == 0
    assert "✗ it runs" in printed.getvalue()


def test_what_others_wrote_is_no_markup(transcript: Transcript, printed: io.StringIO) -> None:
    with transcript.step("[red]title[/red]"):
        transcript.tell("[bold]text[/bold]")
        transcript.check(True, "[link=x]checked[/link]")
    text = printed.getvalue()
    assert "[red]title[/red]" in text
    assert "[bold]text[/bold]" in text
    assert "[link=x]checked[/link]" in text
