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

import logging
import re
import sys
import traceback
from collections.abc import Mapping
from typing import Any, Final, TextIO

import structlog

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_SECRET_NAME: Final = re.compile(r"(?i)secret|token|password|passphrase|authorization|private|cookie")
_HIDDEN: Final = "(hidden)"
_MAX_TEXT: Final = 500

Event = dict[str, Any]


def configure(role: str, *, level: str = "INFO", stream: TextIO | None = None) -> None:
    """Send all logging of this process to `stream` (stderr) as JSON lines that name `role`."""
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[],
        processors=[
            _event_of(role),
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
            structlog.processors.JSONRenderer(sort_keys=False, ensure_ascii=True),
        ],
    )
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # Tells what it serves, not what happened.
    logging.getLogger("gunicorn.access").disabled = True


def _event_of(role: str) -> structlog.types.Processor:
    def build(_logger: Any, _method: str, event: structlog.types.EventDict) -> Event:
        record: logging.LogRecord = event["_record"]
        line: Event = {
            "level": record.levelname.lower(),
            "role": role,
            "logger": record.name,
            "event": _plain(event["event"]),
            "pid": record.process,
        }
        extra = {name: value for name, value in vars(record).items() if name not in _STANDARD}
        line.update({name: hide(name, value) for name, value in extra.items() if not name.startswith("_")})
        failed = event.get("exc_info")
        if failed and failed[0] is not None:
            line["error"] = failed[0].__name__
            line["where"] = places(failed[2])
        return line

    return build


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
