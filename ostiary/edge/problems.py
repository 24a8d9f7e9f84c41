"""Errors as problem documents (RFC 9457): the one place that maps an error's kind to a status and a problem
type.

Nothing internal leaves through here: what only an operator may read is kept from the network, and a fault
says nothing but where the log says more.
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
STATUS_OF_KIND: Final[dict[str, tuple[int, str]]] = {
    "bad-input": (400, "The request can't be right"),
    "unauthenticated": (401, "Who you are is not proven"),
    "forbidden": (403, "You may not do this"),
    "not-found": (404, "There is no such thing"),
    "conflict": (409, "The state does not allow this"),
    "busy": (503, "Try again"),
    "misconfigured": (500, "The service needs its operator"),
    "internal-fault": (500, "The service failed"),
}
_DETAIL_HIDDEN: Final = "the service's log says more under this instance"


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A problem document; `field` and `rule` are our extension members."""

    type: str
    title: str
    status: int
    detail: str = ""
    instance: str = ""
    field: str | None = None
    rule: str | None = None


def problem_of(error: OstiaryError, *, audience: Audience, instance: str) -> Problem:
    """The document of one error; what only an operator may read is kept from the network."""
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
    """A whole HTTP/1.1 response for what never became a request."""
    phrase = HTTPStatus(status).phrase
    body = msgspec.json.encode(problem_of_status(status, phrase, ""))
    head = (
        f"HTTP/1.1 {status} {phrase}\r\nContent-Type: {PROBLEM_TYPE}\r\nContent-Length: {len(body)}\r\n"
        "Cache-Control: no-store\r\nConnection: close\r\n\r\n"
    )
    return head.encode("ascii") + body


def problem_of_status(status: int, phrase: str, detail: str) -> Problem:
    """The document of a status that no error of ours stands behind; its type is made of the
    status's phrase.
    """
    slug = re.sub(r"[^a-z]+", "-", phrase.lower()).strip("-")
    return Problem(type=PROBLEM_URN + slug, title=phrase, status=status, detail=detail)
