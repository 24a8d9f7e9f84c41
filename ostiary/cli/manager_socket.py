"""Where the certificate manager of this node listens, for the commands that speak to it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from certmgr.client import ManagerError
from ostiary.cli.invocation import HOME_VARIABLE, current
from ostiary.errors import (
    BadInput,
    Busy,
    Conflict,
    Forbidden,
    InternalFault,
    Misconfigured,
    NotFound,
    OstiaryError,
    Unauthenticated,
)

SYSTEM_SOCKET: Final = Path("/run/ostiary/certmgr.sock")
Command = TypeVar("Command", bound=Callable[..., Any])
_ERRORS: Final[dict[str, type[OstiaryError]]] = {
    "bad-input": BadInput,
    "unauthenticated": Unauthenticated,
    "not-found": NotFound,
    "conflict": Conflict,
    "misconfigured": Misconfigured,
    "internal-fault": InternalFault,
}


def socket_option(command: Command) -> Command:
    """Give a command --socket PATH; `manager_socket` makes the path out of what was given."""
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


def told(error: ManagerError) -> OstiaryError:
    """Return the error of the command line that an answer of the manager stands for."""
    message = str(error)
    if error.kind == "forbidden":
        return Forbidden(message, rule=error.rule or "unknown", field=error.field)
    if error.kind == "busy":
        return Busy(message)
    return _ERRORS.get(error.kind, BadInput)(message, field=error.field)
