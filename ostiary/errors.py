"""Errors that cross a border of a package, split by who must act.

Rules:
- A message is lower case, says what failed, with which value (quoted), and what was wanted; never a secret,
  never payload bytes.
- `field` names the input at fault, in the caller's own words (a JSON member, an option, a certificate field).
- Inside, errors carry a kind; only `ostiary.front.http` maps a kind to an HTTP status and a problem type (RFC
  9457).
- A refusal by policy is a value (`Denial`) until the edge turns it into `Forbidden`.
"""

from __future__ import annotations

from typing import ClassVar


class OstiaryError(Exception):
    """Base of every error that an edge may show to a caller or an operator."""

    kind: ClassVar[str] = "error"

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field


class BadInput(OstiaryError):
    """The caller sent something that can never be right; mend it and try again."""

    kind = "bad-input"


class Unauthenticated(OstiaryError):
    """The caller did not prove who it is (token, certificate, peer credentials)."""

    kind = "unauthenticated"


class Forbidden(OstiaryError):
    """The caller is known and may not do this; `rule` names the policy rule or check that says so."""

    kind = "forbidden"

    def __init__(self, message: str, *, rule: str, field: str | None = None) -> None:
        super().__init__(message, field=field)
        self.rule = rule


class NotFound(OstiaryError):
    """The thing named does not exist."""

    kind = "not-found"


class Conflict(OstiaryError):
    """The thing exists in a state that does not allow this (a spent token, a name that is taken)."""

    kind = "conflict"


class Busy(OstiaryError):
    """A part of the service is full, restarting or late; nothing was done that the ledger does not show."""

    kind = "busy"

    def __init__(self, message: str, *, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Misconfigured(OstiaryError):
    """An operator must act: the message says what to do next."""

    kind = "misconfigured"


class InternalFault(OstiaryError):
    """Our own fault; the caller sees only that it happened."""

    kind = "internal-fault"
