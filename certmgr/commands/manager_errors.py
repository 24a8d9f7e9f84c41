"""The manager's refusals as errors of the command line, which decide its message and exit code."""

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

# Forbidden and Busy take other arguments, so `command_error` builds them itself.
_ERRORS: Final[dict[str, type[OstiaryError]]] = {
    "bad-input": BadInput,
    "unauthenticated": Unauthenticated,
    "not-found": NotFound,
    "conflict": Conflict,
    "misconfigured": Misconfigured,
    "internal-fault": InternalFault,
}


def command_error(error: ManagerError) -> OstiaryError:
    """Return the command line's error for a refusal; an unknown kind becomes BadInput."""
    message = str(error)
    if error.kind == "forbidden":
        return Forbidden(message, rule=error.rule or "unknown", field=error.field)
    if error.kind == "busy":
        return Busy(message)
    return _ERRORS.get(error.kind, BadInput)(message, field=error.field)
