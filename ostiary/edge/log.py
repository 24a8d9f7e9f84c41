"""Logs: one JSON object per line on stderr, for ours and for every library's messages.

Rules:
- `configure` once, in a role's main; everything else uses `logging.getLogger("ostiary.<part>")` with
  `extra=`.
- What a message carries is named in `extra`; values are public by then (ids, kinds, counts), never payloads.
- Whatever is not text, number, list or None is logged by its type: an object's repr may hold what we don't
  know.
- Members whose name says secret are replaced, as a last net; a test marks secrets and greps for them.
- Exceptions of libraries are logged by type and place, never by message.
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
    # Tells what it serves, not what happened.
    logging.getLogger("gunicorn.access").disabled = True


class _JSONLines(logging.Formatter):
    """A record as one line. JSON in ASCII has no line end and no control character, whatever a message holds."""

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
        at = datetime.fromtimestamp(record.created, UTC)
        line["at"] = at.isoformat(timespec="microseconds").replace("+00:00", "Z")
        return json.dumps(line)


def places(trace: Any) -> list[str]:
    """The last frames of a traceback as `file:line`, without source or values."""
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
        return {str(name): hide(str(name), item) for name, item in value.items()}
    return f"({type(value).__name__})"
