"""What the command line and a service's admin process say to each other (JSON over a channel).

    request   {"verb": "token.create", "arguments": {...}}
    answer    status OK: the verb's result; status REFUSED: a problem {"kind", "message", "field", "rule"}

JSON and not msgpack, so that what an operator's tool sent can be read in a trace; secrets never go this way
in clear (tokens are shown once in an answer, credentials are HPKE envelopes).
"""

from __future__ import annotations

from typing import Any

import msgspec

from ostiary import errors
from ostiary.errors import BadInput, Busy, Forbidden, InternalFault, OstiaryError


class VerbRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One verb with its arguments."""

    verb: str
    arguments: dict[str, Any]


class VerbProblem(msgspec.Struct, frozen=True, omit_defaults=True):
    """An error on its way to the operator."""

    kind: str
    message: str
    field: str | None = None
    rule: str | None = None


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
        raise BadInput(f"not a verb with arguments: {exc}") from exc


def problem_of(error: OstiaryError) -> VerbProblem:
    """What an operator is told of an error."""
    return VerbProblem(
        kind=error.kind, message=error.message, field=error.field, rule=getattr(error, "rule", None)
    )


def error_of(problem: VerbProblem) -> OstiaryError:
    """The error that a problem stands for."""
    if problem.kind == Forbidden.kind:
        return Forbidden(problem.message, rule=problem.rule or "", field=problem.field)
    if problem.kind == Busy.kind:
        return Busy(problem.message)
    return _KINDS.get(problem.kind, InternalFault)(problem.message, field=problem.field)
