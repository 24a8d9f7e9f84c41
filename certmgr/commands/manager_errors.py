"""What the manager refused, as the error of the command line."""

from __future__ import annotations

from typing import Final

from certmgr.client import ManagerError
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

_ERRORS: Final[dict[str, type[OstiaryError]]] = {
    "bad-input": BadInput,
    "unauthenticated": Unauthenticated,
    "not-found": NotFound,
    "conflict": Conflict,
    "misconfigured": Misconfigured,
    "internal-fault": InternalFault,
}


def command_error(error: ManagerError) -> OstiaryError:
    """Return the error of the command line that an answer of the manager stands for."""
    message = str(error)
    if error.kind == "forbidden":
        return Forbidden(message, rule=error.rule or "unknown", field=error.field)
    if error.kind == "busy":
        return Busy(message)
    return _ERRORS.get(error.kind, BadInput)(message, field=error.field)
