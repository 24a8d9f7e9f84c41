"""The protocol between the command line and a service's admin process (JSON over a channel).

    request   {"verb": "token.create", "arguments": {...}}
    response  status OK: the verb's result; status REFUSED: a problem {"kind", "message", "field", "rule"}

JSON and not msgpack, so that a trace of an operator's tool is readable. A response shows a new token once;
credentials travel as HPKE envelopes. No other secret goes this way.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ostiary import errors
from ostiary.errors import BadInput, Busy, Forbidden, InternalFault, OstiaryError


# Both ends are of one release (the wheel), so an unknown member is a mistake and not a later version.
class VerbRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A verb and its arguments."""

    verb: str
    arguments: dict[str, Any]


class VerbProblem(msgspec.Struct, frozen=True, omit_defaults=True):
    """An error on its way to the operator."""

    kind: str
    message: str
    field: str | None = None
    rule: str | None = None


# Errors with a message and a field only; Forbidden and Busy have a constructor of their own.
_KINDS: dict[str, type[OstiaryError]] = {
    cls.kind: cls
    for cls in (
        errors.BadInput,
        errors.Unauthenticated,
        errors.NotFound,
        errors.Conflict,
        errors.Misconfigured,
        errors.InternalFault,
    )
}


def decode_request(body: bytes) -> VerbRequest:
    """Parse a request; raises BadInput."""
    try:
        return msgspec.json.decode(body, type=VerbRequest)
    except msgspec.MsgspecError as exc:
        raise BadInput(f"malformed verb request: {exc}") from exc


def problem_of(error: OstiaryError) -> VerbProblem:
    """Return the problem that reports an error to the operator."""
    return VerbProblem(
        kind=error.kind, message=error.message, field=error.field, rule=getattr(error, "rule", None)
    )


def error_of(problem: VerbProblem) -> OstiaryError:
    """Return the error that a problem reports."""
    if problem.kind == Forbidden.kind:
        return Forbidden(problem.message, rule=problem.rule or "unknown", field=problem.field)
    if problem.kind == Busy.kind:
        return Busy(problem.message)
    return _KINDS.get(problem.kind, InternalFault)(problem.message, field=problem.field)
