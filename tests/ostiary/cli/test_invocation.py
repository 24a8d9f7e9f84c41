"""One call of the command line: whose home it uses, and who reads its output."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from ostiary.cli.invocation import HOME_VARIABLE, Invocation, current, everywhere_options, home


@click.command(params=everywhere_options())
def show() -> None:
    click.echo(f"{home()} {current().json}")


def shown(*arguments: str, variable: str | None = None) -> str:
    environ = {} if variable is None else {HOME_VARIABLE: variable}
    result = CliRunner().invoke(show, list(arguments), obj=Invocation(environ=environ))
    return result.output.rstrip("\n")


@pytest.mark.parametrize(
    ("arguments", "variable", "expected"),
    [
        (["--home", "/a"], None, "/a False"),
        (["--home", "/a", "--json"], "/b", "/a True"),
        ([], "/b", "/b False"),
        (["--home", "a"], None, f"{Path('a').absolute()} False"),
    ],
)
def test_the_option_wins_over_the_variable(arguments: list[str], variable: str | None, expected: str) -> None:
    assert shown(*arguments, variable=variable) == expected


@pytest.mark.parametrize("variable", [None, ""])
def test_without_a_home_the_caller_learns_both_ways_to_give_one(variable: str | None) -> None:
    output = shown(variable=variable)
    assert "--home DIR" in output
    assert HOME_VARIABLE in output


def test_options_are_new_for_each_command() -> None:
    first, second = everywhere_options(), everywhere_options()
    assert all(one is not other for one, other in zip(first, second, strict=True))
    assert all(option.is_eager for option in first)


def test_outside_a_command_there_is_a_default_invocation() -> None:
    assert current().json is False
    assert current().home is None
