"""The socket of this node's certificate manager, for the commands that connect to it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from ostiary.cli.invocation import HOME_VARIABLE, current

# For a manager that the machine runs; one that a person started listens in that person's home.
SYSTEM_SOCKET: Final = Path("/run/ostiary/certmgr.sock")
Command = TypeVar("Command", bound=Callable[..., Any])


def socket_option(command: Command) -> Command:
    """Give a command the option --socket PATH; `manager_socket` turns its value into a path."""
    return click.option(
        "--socket",
        "socket_path",
        type=click.Path(path_type=Path),
        metavar="PATH",
        help="The manager's socket. [default: HOME/certmgr/s with --home, else /run/ostiary/certmgr.sock]",
    )(command)


def manager_socket(given: Path | None) -> Path:
    """Return the socket's absolute path: as given, in the home, or the system's."""
    if given is not None:
        return given.absolute()
    invocation = current()
    from_environment = invocation.environ.get(HOME_VARIABLE)
    home = invocation.home or (Path(from_environment) if from_environment else None)
    return home.absolute() / "certmgr" / "s" if home is not None else SYSTEM_SOCKET
