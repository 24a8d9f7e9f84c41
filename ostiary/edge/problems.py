"""Errors as problem documents (RFC 9457): the one map from an error's kind to a status and a problem type.

Nothing internal leaves through here. The network does not see what only an operator may read, and a fault
says nothing but which log lines explain it.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Final, Literal

import msgspec

from ostiary.errors import Forbidden, InternalFault, Misconfigured, OstiaryError

Audience = Literal["network", "operator"]

PROBLEM_TYPE: Final = "application/problem+json"
PROBLEM_URN: Final = "urn:ostiary:problem:"
# A title depends on the type alone (RFC 9457 section 3.1.3); what is particular to one request is the detail.
STATUS_OF_KIND: Final[dict[str, tuple[int, str]]] = {
    "bad-input": (400, "Invalid request"),
    "unauthenticated": (401, "Authentication required"),
    "forbidden": (403, "Not permitted"),
    "not-found": (404, "Not found"),
    "conflict": (409, "Conflict with the current state"),
    "busy": (503, "Temporarily unavailable"),
    "misconfigured": (500, "Service misconfigured"),
    "internal-fault": (500, "Internal error"),
}
_DETAIL_HIDDEN: Final = "see the service's log under this instance"


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A problem document; `field` and `rule` are extension members of ours (RFC 9457 section 3.2)."""

    type: str
    title: str
    status: int
    detail: str = ""
    instance: str = ""
    field: str | None = None
    rule: str | None = None


def problem_of(error: OstiaryError, *, audience: Audience, instance: str) -> Problem:
    """Return the document of one error; a hidden detail refers to the log."""
    # An operator at the local socket reads why a service is misconfigured; a fault of ours could quote
    # anything, and stays in the log for everybody.
    status, title = STATUS_OF_KIND[error.kind]
    hidden = isinstance(error, InternalFault) or (isinstance(error, Misconfigured) and audience == "network")
    return Problem(
        type=PROBLEM_URN + error.kind,
        title=title,
        status=status,
        detail=_DETAIL_HIDDEN if hidden else error.message,
        instance=instance if status >= 500 else "",
        field=None if hidden else error.field,
        rule=error.rule if isinstance(error, Forbidden) else None,
    )


def raw_problem(status: int) -> bytes:
    """Return a complete HTTP/1.1 response to what never became a request."""
    phrase = HTTPStatus(status).phrase
    body = msgspec.json.encode(problem_of_status(status, phrase, ""))
    head = (
        f"HTTP/1.1 {status} {phrase}\r\nContent-Type: {PROBLEM_TYPE}\r\nContent-Length: {len(body)}\r\n"
        "Cache-Control: no-store\r\nConnection: close\r\n\r\n"
    )
    return head.encode("ascii") + body


def problem_of_status(status: int, phrase: str, detail: str) -> Problem:
    """Return the document of a status that no error of ours caused; its type is the status's phrase."""
    slug = re.sub(r"[^a-z]+", "-", phrase.lower()).strip("-")
    return Problem(type=PROBLEM_URN + slug, title=phrase, status=status, detail=detail)
