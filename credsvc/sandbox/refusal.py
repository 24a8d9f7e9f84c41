"""Why a module's source is refused: the closed set of words that leaves a worker, shared by both sides.

It stands apart from `policy` so that the host never imports RestrictedPython: nothing of a module is parsed
there.
"""

from __future__ import annotations

from enum import StrEnum

__all__ = ["Reason", "RefusedSource"]


class Reason(StrEnum):
    """Words that are shown to module developers."""

    TOO_LARGE = "too-large"
    NOT_TEXT = "not-plain-text"
    SYNTAX = "syntax"
    TOO_COMPLEX = "too-complex"
    NOT_ALLOWED = "not-allowed"
    TOP_LEVEL = "top-level-raised"


class RefusedSource(Exception):
    """A module's source is not in the language; `line` counts from 1, 0 where there is none to name."""

    def __init__(self, reason: Reason, line: int = 0) -> None:
        super().__init__(reason.value)
        self.reason = reason
        self.line = line
