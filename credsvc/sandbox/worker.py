"""The loop inside a locked worker: load one module, then answer calls, each in globals of its own.

A request holds one call or many; each of them is an item.

Rules:
- Requests come from the host and are trusted in form; everything else in this process may be the module's.
- Nothing of a module reaches an answer but its JSON value: an exception is one byte, whatever it says.
- Fresh globals and a fresh copy of the arguments for each item: what a module keeps, it loses.
- End of file ends the worker; so does anything unexpected. There is nobody to report to.

The lock-down allows read and write on fd 3 only: no socket object, no stderr, no import after it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import CodeType
from typing import Any, Final, NoReturn

from credsvc.sandbox import frames
from credsvc.sandbox.frames import Kind, Outcome
from credsvc.sandbox.policy import build_globals, compile_module
from credsvc.sandbox.refusal import Reason, RefusedSource
from credsvc.sandbox.seccomp import CHANNEL_FD

__all__ = ["Language", "restricted_language", "serve"]

_Result = tuple[Outcome, bytes]
_EMPTY: Final = b""
_MAX_VALUE_BYTES: Final = frames.MAX_ANSWER_BYTES - frames.HEADER_BYTES
_AROUND_BYTES: Final = 2  # an answer's outcome, and the line end before the next
_ROOM_BYTES: Final = _MAX_VALUE_BYTES + _AROUND_BYTES
_decode: Final = json.JSONDecoder().raw_decode
# The shortest form of a value, which is the one that the host takes (`client.decode`).
_encode: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


@dataclass(frozen=True, slots=True, kw_only=True)
class Language:
    """How a module's text becomes code, and the globals that the code finds."""

    compile_source: Callable[[str], CodeType]
    fresh_globals: Callable[[], dict[str, Any]]


def restricted_language(injected: Mapping[str, Callable[..., object]]) -> Language:
    """Return the one language that production uses."""
    template = build_globals(injected)
    builtins: Any = template["__builtins__"]

    def fresh_globals() -> dict[str, Any]:
        return {**template, "__builtins__": dict(builtins)}

    return Language(compile_source=compile_module, fresh_globals=fresh_globals)


def serve(language: Language) -> NoReturn:
    """Answer requests on fd 3 until end of file, then leave without running anything on the way out."""
    code: CodeType | None = None
    # A record is whole (SOCK_SEQPACKET), so one read is one request.
    while True:
        record = os.read(CHANNEL_FD, frames.MAX_REQUEST_BYTES)
        if not record:
            os._exit(0)
        # The nonce lives in this frame while the module runs: code that breaks out can find it, and forge the
        # answer to its own request, but to no other.
        kind, nonce, body = frames.unpack_request(record)
        if kind == Kind.LOAD:
            code, loaded = _load(language, body)
            os.write(CHANNEL_FD, frames.pack_answers(nonce, [loaded]))
        elif code is not None:
            for answers in _call_each(language, code, body):
                os.write(CHANNEL_FD, frames.pack_answers(nonce, answers))
        else:
            os._exit(1)


def _call_each(language: Language, code: CodeType, body: bytes) -> Iterator[list[_Result]]:
    """Run each item; yields as many answers as a record shall gather, or can hold."""
    gathered, entry, items = frames.unpack_calls(body)
    answers: list[_Result] = []
    room = _ROOM_BYTES
    for item in items:
        result = _call(language, code, entry, item)
        size = len(result[1]) + _AROUND_BYTES
        if size > room:
            yield answers
            answers, room = [], _ROOM_BYTES
        answers.append(result)
        room -= size
        if result[0] is Outcome.EXHAUSTED:
            break  # the rest belongs to another worker
        if len(answers) == gathered:
            yield answers
            answers, room = [], _ROOM_BYTES
    if answers:
        yield answers


def _load(language: Language, source: bytes) -> tuple[CodeType | None, _Result]:
    """Compile, and run the top level once, so that a module that can't even be defined is refused here."""
    try:
        code = language.compile_source(source.decode("utf-8"))
    except RefusedSource as exc:
        return None, (Outcome.REFUSED, _refusal(exc.reason, exc.line))
    try:
        exec(code, language.fresh_globals())  # noqa: S102 - running modules is what this process is for
    except BaseException:  # noqa: BLE001 - whatever it is, it is the module's
        return None, (Outcome.REFUSED, _refusal(Reason.TOP_LEVEL, 0))
    return code, (Outcome.LOADED, _EMPTY)


def _refusal(reason: Reason, line: int) -> bytes:
    return f"{reason.value} {line}".encode("ascii")


def _call(language: Language, code: CodeType, entry: str, item: bytes) -> _Result:
    """Run one item, the JSON object of its arguments."""
    arguments, _end = _decode(item.decode())
    try:
        space = language.fresh_globals()
        exec(code, space)  # noqa: S102 - as above
        answer = _encode(space[entry](**arguments)).encode()
    # The order matters: both are Exceptions, and after them the interpreter's state is not to be trusted.
    except (MemoryError, RecursionError):
        return Outcome.EXHAUSTED, _EMPTY
    except Exception:  # noqa: BLE001 - a module may raise anything; its text stays here
        return Outcome.RAISED, _EMPTY
    except BaseException:  # noqa: BLE001 - SystemExit and the like: no longer the process that we made
        return Outcome.EXHAUSTED, _EMPTY
    if len(answer) > _MAX_VALUE_BYTES:
        return Outcome.UNSENDABLE, _EMPTY
    return Outcome.DONE, answer
