"""Errors that cross a package border, split by who must act.

Rules:
- A message is lower case. It says what failed, with which value (quoted), and what was wanted. It never
  contains a secret or payload bytes.
- `field` names the input at fault in the caller's own words (a JSON member, an option, a certificate field).
- An error carries a kind; only `ostiary.edge.problems` maps a kind to an HTTP status and a problem type (RFC
  9457).
- A refusal by policy is a value (`Denial`) until the edge turns it into `Forbidden`.
"""

from __future__ import annotations

from typing import ClassVar


class OstiaryError(Exception):
    """Base of every error that an edge may show to a caller or an operator."""

    # The kind is part of the wire contract: it is the last part of the problem type's URN.
    kind: ClassVar[str] = "error"

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field


class BadInput(OstiaryError):
    """The request can never succeed as sent; the caller must correct it."""

    kind = "bad-input"


class Unauthenticated(OstiaryError):
    """The caller did not prove who it is (token, certificate, peer credentials)."""

    kind = "unauthenticated"


class Forbidden(OstiaryError):
    """The caller is known and may not do this; `rule` names the policy rule or check that forbids it."""

    kind = "forbidden"

    def __init__(self, message: str, *, rule: str, field: str | None = None) -> None:
        super().__init__(message, field=field)
        self.rule = rule


class NotFound(OstiaryError):
    """What the caller named does not exist."""

    kind = "not-found"


class Conflict(OstiaryError):
    """What the caller named exists in a state that does not allow this (a spent token, a name in use)."""

    kind = "conflict"


class Busy(OstiaryError):
    """A part of the service is full, restarting or late; whatever was done stands in the ledger."""

    kind = "busy"

    def __init__(self, message: str, *, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Misconfigured(OstiaryError):
    """An operator must act: the message says what to do next."""

    kind = "misconfigured"


class InternalFault(OstiaryError):
    """A fault of ours; the caller learns only that it happened, the log has the rest."""

    kind = "internal-fault"
