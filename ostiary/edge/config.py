"""Configuration: a TOML file decoded into a msgspec type, once, at start.

Rules:
- A type lists every member (`forbid_unknown_fields=True`). A wrong or unknown one is `Misconfigured` and
  named together with the file, so that the operator knows what to change.
- Nothing is read from the environment, nothing has two spellings, and no configuration file holds a secret.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from ostiary.edge.files import read_limited
from ostiary.errors import Misconfigured

T = TypeVar("T")

_LIMIT_BYTES: Final = 256 << 10
# msgspec ends a message with the member's path (" - at `$.lifetimes.agent_s`"); here it goes in front.
_AT_PATH: Final = re.compile(r" - at `\$\.?([^`]*)`$")


def load(path: Path, type_: type[T]) -> T:
    """The file's content as a value of `type_`; `Misconfigured` names file and member."""
    return parse(read_limited(path, limit_bytes=_LIMIT_BYTES), type_, name=str(path))


def parse(content: bytes, type_: type[T], *, name: str) -> T:
    """TOML text as a value of `type_`; `name` stands in messages."""
    try:
        tree = tomllib.loads(content.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise Misconfigured(f"'{name}' is not TOML: {exc}") from exc
    try:
        return msgspec.convert(tree, type_, strict=True)
    except msgspec.ValidationError as exc:
        message = str(exc)
        match = _AT_PATH.search(message)
        text = message[: match.start()] if match else message
        field = match[1] if match else None
        where = f" at '{field}'" if field else ""
        raise Misconfigured(f"'{name}'{where}: {text[:1].lower()}{text[1:]}", field=field) from exc
