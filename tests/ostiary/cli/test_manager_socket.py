"""Where a command looks for the node's manager: the option, the home, then the system's place."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from ostiary.cli.invocation import HOME_VARIABLE, Invocation
from ostiary.cli.manager_socket import SYSTEM_SOCKET, manager_socket, socket_option


@click.command()
@socket_option
def show(socket_path: Path | None) -> None:
    click.echo(manager_socket(socket_path))


def path_with(*arguments: str, home: str | None = None, variable: str | None = None) -> str:
    environ = {} if variable is None else {HOME_VARIABLE: variable}
    invocation = Invocation(environ=environ, home=None if home is None else Path(home))
    return CliRunner().invoke(show, list(arguments), obj=invocation).output.rstrip("\n")


def test_the_option_wins() -> None:
    assert path_with("--socket", "/a/s", home="/h", variable="/v") == "/a/s"


@pytest.mark.parametrize(
    ("home", "variable", "path"),
    [
        ("/h", "/v", "/h/certmgr/s"),
        (None, "/v", "/v/certmgr/s"),
        (None, "", str(SYSTEM_SOCKET)),
        (None, None, str(SYSTEM_SOCKET)),
    ],
)
def test_then_the_home_then_the_systems_place(home: str | None, variable: str | None, path: str) -> None:
    assert path_with(home=home, variable=variable) == path


def test_a_relative_path_is_made_absolute() -> None:
    assert path_with("--socket", "s") == str(Path("s").absolute())
