"""Durations on the command line, in seconds."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from ostiary.cli.duration import DURATION


@click.command()
@click.option("--ttl", type=DURATION, default="10m")
def show(ttl: int) -> None:
    click.echo(ttl)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("90", 90), ("10m", 600), ("2h", 7200), ("1d", 86400), ("999999999", 999_999_999)],
)
def test_a_duration_is_read_in_seconds(text: str, seconds: int) -> None:
    assert CliRunner().invoke(show, ["--ttl", text]).output == f"{seconds}\n"


def test_a_default_is_read_like_an_argument() -> None:
    assert CliRunner().invoke(show, []).output == "600\n"


@pytest.mark.parametrize(
    "text", ["", "0", "0s", "01m", "-1s", "1.5h", "1w", "1 h", "1h30m", "\u0661h", "9" * 10]
)
def test_anything_else_is_a_usage_error(text: str) -> None:
    result = CliRunner().invoke(show, ["--ttl", text])
    assert result.exit_code == 2
    assert "is not a duration; wanted 90s, 10m, 2h or 1d" in result.output
