"""No test fails because a machine is slow, as far as the tests' sources show it. How to wait is said in
`tests/support/waiting.py`.

- Nobody but `waiting` reads a stopwatch, so nobody can compare what it shows with a limit.
- No assertion puts a moment of the clock in order with another.
- A number that limits a wait is a guard against hanging, and so at least `GUARD_S`, or has a name that says
  that it is to run out.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.waiting import PATIENCE_S

TESTS = Path(__file__).resolve().parent
WAITING = "support/waiting.py"
GUARD_S = 30
STOPWATCHES = {
    f"{name}{suffix}"
    for name in ("monotonic", "perf_counter", "process_time", "thread_time")
    for suffix in ("", "_ns")
}
CLOCKS = {"time", "time_ns", "now", "utcnow", "today"}
# Arguments, and first arguments of methods, that say how long to wait.
LIMITS = {"timeout", "timeout_s", "within_s", "limit_s", "deadline_s", "wait_s"}
WAITS = {"settimeout", "join", "wait"}
# Whose time is the test's own.
FAKE_CLOCKS = {"recorder"}
# Where a limit is data of what is tested, or a moment is one, and why.
MEANT = {
    "certmgr/test_vault.py": "a key's life in the kernel, which is to end",
    "keyutils/test_agent_keys.py": "a key's life in the kernel, which is to end",
    "integration/test_ca_inside.py": "entries are sorted by whether they are older than the test",
}


def faults(source: str) -> Iterator[str]:
    """What in a test's source makes it depend on the machine's speed, one sentence each."""
    tree = ast.parse(source)
    moments = set(_names_of_moments(tree))
    for node in ast.walk(tree):
        if _is_stopwatch(node):
            yield f"line {_line(node)}: reads a stopwatch; wait by tests.support.waiting"
        elif isinstance(node, ast.Assert) and _orders_moments(node, moments):
            yield f"line {node.lineno}: asserts that a moment comes before another"
        elif isinstance(node, ast.Call):
            yield from (
                f"line {node.lineno}: {limit:g} s are no guard against hanging"
                for limit in _limits_of(node)
                if 0 < limit < GUARD_S
            )


def _line(node: ast.AST) -> int:
    return int(getattr(node, "lineno", 0))


def _is_stopwatch(node: ast.AST) -> bool:
    if isinstance(node, ast.ImportFrom) and node.module == "time":
        return any(alias.name in STOPWATCHES for alias in node.names)
    return (
        isinstance(node, ast.Attribute)
        and node.attr in STOPWATCHES
        and isinstance(node.value, ast.Name)
        and node.value.id == "time"
    )


def _is_moment(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in CLOCKS
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id in {"time", "datetime", "date"}
    )


def _names_of_moments(tree: ast.AST) -> Iterator[str]:
    """Variables that were given what a clock said, alone or beside others."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and any(map(_is_moment, ast.walk(node.value))):
            for target in node.targets:
                yield from (each.id for each in ast.walk(target) if isinstance(each, ast.Name))


def _orders_moments(node: ast.Assert, moments: set[str]) -> bool:
    for compared in ast.walk(node.test):
        if not isinstance(compared, ast.Compare):
            continue
        if not any(isinstance(operator, ast.Lt | ast.LtE | ast.Gt | ast.GtE) for operator in compared.ops):
            continue
        for part in ast.walk(compared):
            if _is_moment(part) or (isinstance(part, ast.Name) and part.id in moments):
                return True
    return False


def _limits_of(call: ast.Call) -> Iterator[float]:
    """The numbers, given as such, that limit how long a call waits."""
    given = [keyword.value for keyword in call.keywords if keyword.arg in LIMITS]
    if isinstance(call.func, ast.Attribute) and call.func.attr in WAITS:
        owner = ast.unparse(call.func.value).rpartition(".")[2]
        given += [] if owner in FAKE_CLOCKS else call.args[:1]
    for value in given:
        if isinstance(value, ast.Constant) and isinstance(value.value, int | float):
            yield float(value.value)


def test_no_test_depends_on_the_speed_of_its_machine() -> None:
    wrong = [
        f"{path.relative_to(TESTS)}: {fault}"
        for path in sorted(TESTS.rglob("*.py"))
        if (name := str(path.relative_to(TESTS))) not in MEANT and name != WAITING
        for fault in faults(path.read_text("utf-8"))
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", MEANT)
def test_what_is_meant_is_still_there(name: str) -> None:
    assert list(faults((TESTS / name).read_text("utf-8"))), f"{name} needs no reason any more"


@pytest.mark.parametrize(
    "source",
    [
        "started = time.monotonic()\nact()\nassert time.monotonic() - started < 1",
        "until = time.monotonic() + 5",
        "from time import perf_counter",
        "assert time.process_time() < 1",
        "assert time.thread_time_ns() < 1",
        "began = time.time()\nact()\nassert time.time() - began < 2",
        "a, began = size(), int(time.time() * 1000)\nassert at <= began",
        "assert datetime.now(UTC) - began <= timedelta(seconds=1)",
        "thread.join(5)",
        "thread.join(timeout=5)",
        "sock.settimeout(1)",
        "process.wait(0.5)",
        "subprocess.run(argv, timeout=20)",
        "client.call(b'x', timeout_s=2)",
    ],
)
def test_the_test_sees_each_way_to_depend_on_it(source: str) -> None:
    assert list(faults(source)), source


@pytest.mark.parametrize(
    "source",
    [
        "now = int(time.time())\nassert answer == stamp(now)",
        "thread.join()",
        "', '.join(names)",
        "thread.join(PATIENCE_S)",
        "client.call(b'x', timeout_s=RUNS_OUT_S)",
        "sock.settimeout(0)",
        "subprocess.run(argv, timeout=120)",
        "assert count < 5",
        "recorder.wait(1)",
    ],
)
def test_the_test_lets_pass_what_does_not(source: str) -> None:
    assert not list(faults(source)), source


def test_patience_is_a_guard() -> None:
    assert PATIENCE_S >= GUARD_S
