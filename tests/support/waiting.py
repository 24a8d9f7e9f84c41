"""How tests wait: for something to happen, never for a time in which it must have happened.

Rules (tests/test_waiting.py reads the tests' sources and holds them):
- No test asserts that something took less than a time. A machine whose cores are all taken is slow, not
  wrong; what an act costs is measured in `benchmarks/`. What "at once" means is shown otherwise: by what was
  still open when the answer came, by the number of steps, by the error that only a deadline gives.
- A wait ends when its condition holds. `PATIENCE_S` is a guard against hanging alone: far more than the
  longest step takes, so that a test that runs into it has found a fault.
- A deadline that a test wants to see run out is short, and named so (`RUNS_OUT_S`).
- A lower bound is safe on any machine: `at_least`, `rarely`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

T = TypeVar("T")

PATIENCE_S: Final = 120.0
"""More than thirty times what the longest step, the start of a service, takes on two quiet cores."""
RUNS_OUT_S: Final = 0.2
"""A deadline that is to pass before its step is done."""
_LOOK_S: Final = 0.01


def until(condition: Callable[[], T], what: str | Callable[[], object] = "the condition") -> T:
    """Ask until the answer is true, and return it; AssertionError with what never came after `PATIENCE_S`."""
    give_up_s = in_a_while()
    while not (found := condition()):
        if time.monotonic() > give_up_s:
            said = what if isinstance(what, str) else what()
            raise AssertionError(f"never came, in {PATIENCE_S:g} s: {said}")
        time.sleep(_LOOK_S)
    return found


async def until_on_loop(condition: Callable[[], T], what: str = "the condition") -> T:
    """`until`, while the loop goes on with its other work."""
    give_up_s = in_a_while()
    while not (found := condition()):
        if time.monotonic() > give_up_s:
            raise AssertionError(f"never came, in {PATIENCE_S:g} s: {what}")
        await asyncio.sleep(_LOOK_S / 10)
    return found


def in_a_while() -> float:
    """A deadline on time.monotonic() that nobody is meant to reach."""
    return time.monotonic() + PATIENCE_S


def in_a_while_ns() -> int:
    """The same for time.monotonic_ns()."""
    return time.monotonic_ns() + int(PATIENCE_S * 1e9)


def soon_over() -> float:
    """A deadline on time.monotonic() that is to run out."""
    return time.monotonic() + RUNS_OUT_S


@contextmanager
def at_least(seconds: float) -> Iterator[None]:
    """The block takes that long or longer, also when it raises."""
    begun = time.monotonic()
    try:
        yield
    finally:
        took_s = time.monotonic() - begun
        assert took_s >= seconds, f"ended after {took_s:.3f} s, before {seconds:g} s had passed"


def rarely(count: Callable[[], int], *, every_s: float, for_s: float) -> None:
    """What `count` counts happens no more often than once in `every_s`, watched for `for_s` or longer."""
    begun, before = time.monotonic(), count()
    time.sleep(for_s)
    happened = count() - before
    # The watch ends after the last count: on a slow machine the bound only becomes wider.
    bound = (time.monotonic() - begun) / every_s + 2
    assert happened <= bound, f"{happened} times, where {bound:.0f} are many"
