"""What can go wrong with a module's run, as the caller sees it: one constant text for each kind.

Rules:
- Nothing a module says or does chooses a text: no exception, name or path of it reaches a caller.
- Split by who must act: a module that raised refuses *this request* (the caller mends it); full, late or
  restarting is Busy; a module that crashes its worker or answers nonsense is a fault of the installation.
- A module that runs into the deadline is Busy, not BadInput: a loaded machine looks the same, and nothing was
  done.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from credsvc.sandbox.refusal import Reason
from ostiary.errors import BadInput, Busy, InternalFault, OstiaryError

__all__ = ["Fault", "ModuleRefused", "SandboxBroken", "SandboxBusy", "SandboxFault", "SourceRefused", "fault"]


class Fault(StrEnum):
    """Kinds of fault; names for metrics and logs."""

    MODULE_RAISED = "module-raised"
    REQUEST_TOO_LARGE = "request-too-large"
    TIMEOUT = "timeout"
    FULL = "full"
    UNAVAILABLE = "unavailable"
    CRASHED = "crashed"
    EXHAUSTED = "exhausted"
    ANSWER_REFUSED = "answer-refused"
    NOT_LOADED = "not-loaded"


class SandboxFault(OstiaryError):
    """Base of all of them; catch this one to count by `fault`."""

    def __init__(self, message: str, *, fault: Fault) -> None:
        super().__init__(message)
        self.fault = fault


class ModuleRefused(SandboxFault, BadInput):
    """The module raised, or the request does not fit: the caller's request is at fault."""


class SandboxBusy(SandboxFault, Busy):
    """No answer now; try again."""


class SandboxBroken(SandboxFault, InternalFault):
    """The module or its worker did what it must not."""


class SourceRefused(BadInput):
    """A module's source is not in the language; `reason` is a word of a closed set, `line` counts from 1 (0:
    none).
    """

    def __init__(self, *, reason: Reason, line: int) -> None:
        place = f" at line {line}" if line else ""
        super().__init__(f"the module's source is refused: {reason.value}{place}", field="source")
        self.reason = reason
        self.line = line


_TEXTS: Final[dict[Fault, tuple[type[SandboxFault], str]]] = {
    Fault.MODULE_RAISED: (ModuleRefused, "the module refused the request"),
    Fault.REQUEST_TOO_LARGE: (ModuleRefused, "the request is too large for the module"),
    Fault.TIMEOUT: (SandboxBusy, "the module did not answer in time"),
    Fault.FULL: (SandboxBusy, "all sandbox workers are taken"),
    Fault.UNAVAILABLE: (SandboxBusy, "the sandbox is restarting"),
    Fault.CRASHED: (SandboxBroken, "the module's sandbox ended"),
    Fault.EXHAUSTED: (SandboxBroken, "the module ran out of memory or stack"),
    Fault.ANSWER_REFUSED: (SandboxBroken, "the module's answer was refused"),
    Fault.NOT_LOADED: (SandboxBroken, "the module could not be loaded"),
}


def fault(kind: Fault) -> SandboxFault:
    """Return the error for a kind, ready to raise."""
    error, text = _TEXTS[kind]
    return error(text, fault=kind)
