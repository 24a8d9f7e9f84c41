"""Strict decoding of JSON into a msgspec type; an error names the member at fault, never its value.

msgspec itself is strict about types (no "1" for 1). A type that should refuse unknown members says so with
`forbid_unknown_fields`.
"""

from __future__ import annotations

import re
from typing import Final, TypeVar

import msgspec

from ostiary.errors import BadInput

T = TypeVar("T")
# msgspec ends its messages with a JSON path: "Expected `int`, got `str` - at `$.ports[0]`".
_AT_PATH: Final = re.compile(r" - at `(?:key in )?\$\.?([^`]*)`$")
_UNKNOWN_FIELD: Final = re.compile(r"unknown field `([^`]*)`")
_MISSING_FIELD: Final = re.compile(r"required field `([^`]*)`")


def decode_json(content: bytes, type_: type[T]) -> T:
    """Decode `content` into `type_`; `BadInput` names the member by its path (`ports[0]`)."""
    try:
        return msgspec.json.decode(content, type=type_)
    except msgspec.ValidationError as exc:
        raise _bad_member(str(exc)) from exc
    # Text that is not UTF-8, and arrays nested too deep, leave msgspec as these errors and not as its own.
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise BadInput("the body is not JSON") from exc


def _bad_member(message: str) -> BadInput:
    # msgspec offers its findings as a message only; tests/ostiary/edge/test_strict_json.py holds the forms.
    match = _AT_PATH.search(message)
    path = match[1] if match else ""
    text = message[: match.start()] if match else message
    inner = _UNKNOWN_FIELD.search(text) or _MISSING_FIELD.search(text)
    if inner is not None:
        path = f"{path}.{inner[1]}" if path else inner[1]
    # An enum's error quotes the value it got, which may be a secret in the wrong place.
    text = re.sub(r"value '.*'", "value", text, flags=re.DOTALL)
    return BadInput(text[:1].lower() + text[1:], field=path or None)
