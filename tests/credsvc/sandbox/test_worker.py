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
    return worker._call(LANGUAGE, code, "f", json.dumps(arguments).encode())


def call_each(source: str, items: list[bytes], *, gathered: int) -> list[list[tuple[Outcome, bytes]]]:
    """Load and call `f` for each item: the answers of each record."""
    code, loaded = worker._load(LANGUAGE, source.encode())
    assert code is not None, loaded
    return list(worker._call_each(LANGUAGE, code, frames.pack_calls("f", items, gathered=gathered)))


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


ECHO = "def f(n):\n    return n\n"
NUMBERS = [b'{"n":%d}' % n for n in range(5)]


@pytest.mark.parametrize(("gathered", "sizes"), [(1, [1] * 5), (2, [2, 2, 1]), (5, [5]), (16, [5])], ids=str)
def test_answers_are_gathered_in_order(gathered: int, sizes: list[int]) -> None:
    records = call_each(ECHO, NUMBERS, gathered=gathered)
    assert [len(record) for record in records] == sizes
    assert [body for record in records for _outcome, body in record] == [b"%d" % n for n in range(5)]


def test_an_answer_that_fits_no_longer_begins_another_record() -> None:
    limit = frames.MAX_ANSWER_BYTES - frames.HEADER_BYTES
    source = "def f(n):\n    return 'a' * n\n"
    items = [b'{"n":%d}' % (size - 2) for size in (2, limit - 4, 2, limit, 2)]
    records = call_each(source, items, gathered=16)
    packed = [len(frames.pack_answers(bytes(16), record)) for record in records]
    assert packed == [frames.MAX_ANSWER_BYTES, 16 + 3, frames.MAX_ANSWER_BYTES, 16 + 3]


def test_each_item_gets_globals_of_its_own_and_its_own_fault() -> None:
    source = "KEPT = []\ndef f(n):\n    KEPT.append(n)\n    return [1 // n, KEPT]\n"
    ((first, second, third),) = call_each(source, [b'{"n":1}', b'{"n":0}', b'{"n":1}'], gathered=16)
    assert first == third == (Outcome.DONE, b"[1,[1]]")
    assert second == (Outcome.RAISED, b"")


def test_nothing_runs_after_exhaustion() -> None:
    source = "def f(n):\n    return f(n) if n else n\n"
    (record,) = call_each(source, [b'{"n":0}', b'{"n":1}', b'{"n":0}'], gathered=16)
    assert record == [(Outcome.DONE, b"0"), (Outcome.EXHAUSTED, b"")]


@pytest.mark.parametrize(
    ("source", "refusal"),
    [("import os\n", b"not-allowed 1"), ("a = b\n", b"top-level-raised 0"), ("\n(\n", b"syntax 2")],
)
def test_a_refused_source_has_a_reason_and_a_line(source: str, refusal: bytes) -> None:
    assert worker._load(LANGUAGE, source.encode()) == (None, (Outcome.REFUSED, refusal))
