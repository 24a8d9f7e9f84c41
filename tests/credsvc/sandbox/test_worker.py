"""What a worker's language hands to each call, and its answers, in process: serve() itself is tested through
the pool.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from credsvc.sandbox import frames, worker
from credsvc.sandbox.frames import Outcome
from credsvc.sandbox.worker import restricted_language

LANGUAGE = restricted_language({"twice": lambda text: text + text})


def call(source: str, **arguments: Any) -> tuple[Outcome, bytes]:
    """Load and call `f`."""
    code, loaded = worker._load(LANGUAGE, source.encode())
    assert code is not None, loaded
    return worker._call(LANGUAGE, code, json.dumps({"entry": "f", "arguments": arguments}).encode())


def test_each_call_gets_globals_of_its_own() -> None:
    one, other = LANGUAGE.fresh_globals(), LANGUAGE.fresh_globals()
    assert one == other
    assert one is not other
    assert one["__builtins__"] is not other["__builtins__"]


def test_injected_functions_are_there() -> None:
    assert call("def f(x):\n    return twice(x)\n", x="é") == (Outcome.DONE, '"éé"'.encode())


@pytest.mark.parametrize(
    ("source", "outcome"),
    [
        ("def f():\n    raise ValueError('secret text')\n", Outcome.RAISED),
        ("def f():\n    return f\n", Outcome.RAISED),
        ("def f():\n    return {(1, 2): 3}\n", Outcome.RAISED),
        ("def f():\n    return chr(0xD800)\n", Outcome.RAISED),
        ("def f():\n    return f()\n", Outcome.EXHAUSTED),
        ("def f():\n    return 'a' * 70_000\n", Outcome.UNSENDABLE),
        ("def g():\n    return 1\n", Outcome.RAISED),
        ("def f(x):\n    return 1\n", Outcome.RAISED),
    ],
)
def test_what_goes_wrong_is_one_byte(source: str, outcome: Outcome) -> None:
    assert call(source) == (outcome, b"")


def test_the_longest_answer_fits_a_record() -> None:
    limit = frames.MAX_ANSWER_BYTES - frames.HEADER_BYTES
    outcome, body = call(f"def f():\n    return 'a' * {limit - 2}\n")
    assert (outcome, len(body)) == (Outcome.DONE, limit)
    assert call(f"def f():\n    return 'a' * {limit - 1}\n")[0] is Outcome.UNSENDABLE


@pytest.mark.parametrize(
    ("source", "refusal"),
    [("import os\n", b"not-allowed 1"), ("a = b\n", b"top-level-raised 0"), ("\n(\n", b"syntax 2")],
)
def test_a_refused_source_has_a_reason_and_a_line(source: str, refusal: bytes) -> None:
    assert worker._load(LANGUAGE, source.encode()) == (None, (Outcome.REFUSED, refusal))
