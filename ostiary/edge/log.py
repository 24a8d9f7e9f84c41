"""Logs: one JSON object per line on stderr, for ours and for every library's messages.

Rules:
- `configure` is called once, in a role's main; all else uses `logging.getLogger("ostiary.<part>")` with
  `extra=`.
- A message is the event's name in kebab case, constant, so that a search finds all of its kind (gunicorn's
  are its own). `extra` names what it carries. The values are public (ids, kinds, counts), never payloads.
- What is not text, number, list, mapping or None is logged by its type: an object's repr may hold anything.
- Members whose name says that they are secret are replaced. That is the last net, not the rule; a test marks
  secrets and searches all logs for them.
- Exceptions are logged by type and place, never by message: a library's may quote what it was given.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, TextIO

# What a record has of itself, in any Python; the rest came with `extra`.
_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_SECRET_NAME: Final = re.compile(r"(?i)secret|token|password|passphrase|authorization|private|cookie")
_HIDDEN: Final = "(hidden)"
_MAX_TEXT: Final = 500


def configure(role: str, *, level: str = "INFO", stream: TextIO | None = None) -> None:
    """Send all logging of this process to `stream` (stderr) as JSON lines that name `role`."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(_JSONLines(role))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # gunicorn's own line for each request would hold its path, and with it names of credentials; what
    # happened is in the ledger.
    logging.getLogger("gunicorn.access").disabled = True
    # A library's message that does not fit its arguments is lost: `logging` would print both on stderr, as
    # they are.
    logging.raiseExceptions = False


class _JSONLines(logging.Formatter):
    """A record as one line: JSON in ASCII has no line end, whatever a message holds."""

    def __init__(self, role: str) -> None:
        super().__init__()
        self._role = role

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "level": record.levelname.lower(),
            "role": self._role,
            "logger": record.name,
            "event": _plain(record.getMessage()),
            "pid": record.process,
        }
        extra = {name: value for name, value in vars(record).items() if name not in _STANDARD}
        line.update({name: hide(name, value) for name, value in extra.items() if not name.startswith("_")})
        if record.exc_info and record.exc_info[0] is not None:
            line["error"] = record.exc_info[0].__name__
            line["where"] = places(record.exc_info[2])
        line["at"] = datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return json.dumps(line)


def places(trace: Any) -> list[str]:
    """The last eight frames of a traceback as `file:line`, without source text or values."""
    return [f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_tb(trace)][-8:]


def hide(name: str, value: object) -> object:
    """`value` as it may be logged under `name`."""
    if _SECRET_NAME.search(name):
        return _HIDDEN
    return _plain(value)


def _plain(value: object) -> object:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return value if len(value) <= _MAX_TEXT else value[:_MAX_TEXT] + "..."
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        # A name is held to the same rule: what is no text may hold anything.
        return {str(_plain(name)): hide(str(name), item) for name, item in value.items()}
    return f"({type(value).__name__})"
