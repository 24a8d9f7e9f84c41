"""What policy answers: a grant or a denial. Both are values, are recorded, and name the rule that decided."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """Allowed by the rule with this `@id`."""

    rule: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Denial:
    """Refused by the `forbid` with this `@id`; or because no rule allows it (`default-deny`), or none that
    names the action (`guessable-unnamed`).
    """

    rule: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Undecided:
    """To be decided when the operation's context is known."""


DEFAULT_DENY = "default-deny"
GUESSABLE_UNNAMED = "guessable-unnamed"
