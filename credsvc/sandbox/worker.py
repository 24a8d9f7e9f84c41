"""The loop inside a locked worker: load one module, then answer calls, each in globals of its own.

Rules:
- Requests come from the host and are trusted in form; everything else in this process may be the module's.
- Nothing of a module reaches an answer but its JSON value: an exception is one byte, whatever it says.
- Fresh globals and a fresh copy of the arguments for each call: what a module keeps, it loses.
- End of file ends the worker; so does anything unexpected. There is nobody to report to.

The lock-down allows read and write on fd 3 only: no socket object, no stderr, no import after it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
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
            code, (outcome, answer) = _load(language, body)
        elif code is not None:
            outcome, answer = _call(language, code, body)
        else:
            os._exit(1)
        os.write(CHANNEL_FD, frames.pack_answer(nonce, outcome, answer))


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


def _call(language: Language, code: CodeType, body: bytes) -> _Result:
    """Run one call: `{"entry": name, "arguments": {...}}`."""
    call = json.loads(body)
    try:
        space = language.fresh_globals()
        exec(code, space)  # noqa: S102 - as above
        answer = _encode(space[call["entry"]](**call["arguments"])).encode()
    # The order matters: both are Exceptions, and after them the interpreter's state is not to be trusted.
    except (MemoryError, RecursionError):
        return Outcome.EXHAUSTED, _EMPTY
    except Exception:  # noqa: BLE001 - a module may raise anything; its text stays here
        return Outcome.RAISED, _EMPTY
    except BaseException:  # noqa: BLE001 - SystemExit and the like: no longer the process that we made
        return Outcome.EXHAUSTED, _EMPTY
    if len(answer) > frames.MAX_ANSWER_BYTES - frames.HEADER_BYTES:
        return Outcome.UNSENDABLE, _EMPTY
    return Outcome.DONE, answer
