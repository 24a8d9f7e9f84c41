"""The pool under load and under attack: bounds, deadlines, recycling, a zygote that is killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from credsvc.sandbox.client import control, workers
from credsvc.sandbox.client import pool as pool_module
from credsvc.sandbox.client.control import ZygoteClient, zygote_argv
from credsvc.sandbox.client.decode import HoleProposal
from credsvc.sandbox.client.faults import Fault, ModuleRefused, SandboxBroken, SandboxBusy, SourceRefused
from credsvc.sandbox.client.pool import SandboxPool
from credsvc.sandbox.client.private import BlockingSandbox
from credsvc.sandbox.refusal import Reason
from ostiary.errors import BadInput, Busy, InternalFault
from tests.support.sandbox_stack import CONTROL, REQUEST, Stack, module, running, start, stop, wait_gone
from tests.support.waiting import PATIENCE_S, RUNS_OUT_S, at_least, until

LOOP = "def sign(request, credential, clock):\n    while True:\n        pass\n"
ECHO = """
def sign(request, credential, clock):
    return {"formula": "echo", "holes": {"n": request["n"]}}
"""
PICKY = """
def sign(request, credential, clock):
    if request["n"] == 0:
        raise ValueError("\\r\\nX-Secret: \\x1b[2J")
    return {"formula": "f", "holes": {}}
"""


@pytest.fixture
def stack() -> Iterator[Stack]:
    with running() as made:
        yield made


async def ask(stack: Stack, source: str, *, n: int = 1, deadline_s: float = PATIENCE_S) -> HoleProposal:
    arguments = {"request": {"n": n}, "credential": {}, "clock": {}}
    return await stack.sandbox.run(module(source), "sign", arguments, deadline_s)


def call(stack: Stack, source: str, *, n: int = 1, deadline_s: float = PATIENCE_S) -> HoleProposal:
    return stack.pool.wait(ask(stack, source, n=n, deadline_s=deadline_s))


def test_sixteen_callers_each_get_their_own_answer(stack: Stack) -> None:
    sources = [ECHO + f"# {number}\n" for number in range(6)]  # six modules on four workers

    async def work(caller: int) -> None:
        for turn in range(8):
            n = caller * 1000 + turn
            assert (await ask(stack, sources[(caller + turn) % 6], n=n)).holes == {"n": n}

    async def all_of_them() -> None:
        await asyncio.gather(*[work(number) for number in range(16)])

    stack.pool.wait(all_of_them())
    stack.settle()
    assert len(stack.workers()) <= 4 + 1  # the bound, and the zygote's spare


def test_a_warm_worker_is_used_again(stack: Stack) -> None:
    call(stack, ECHO)
    stack.settle(2)
    before = stack.workers()
    for n in range(20):
        assert call(stack, ECHO, n=n).holes == {"n": n}
    assert stack.workers() == before


def test_a_module_that_loops_is_killed_at_its_deadline(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "ANSWER_S", PATIENCE_S)
    call(stack, ECHO)
    kill, killed = ZygoteClient.kill, list[asyncio.Future[int]]()

    def kill_and_tell(client: ZygoteClient, worker_id: int) -> asyncio.Future[int]:
        killed.append(kill(client, worker_id))
        return killed[-1]

    monkeypatch.setattr(ZygoteClient, "kill", kill_and_tell)
    with at_least(RUNS_OUT_S), pytest.raises(SandboxBusy, match=r"^the module did not answer in time$"):
        call(stack, LOOP, deadline_s=RUNS_OUT_S)
    assert [each.result() for each in killed] == [signal.SIGKILL]
    stack.settle(2)  # the echo's and the spare


def test_while_modules_loop_others_are_served(stack: Stack) -> None:
    async def story() -> None:
        await ask(stack, ECHO)
        async with _looping(stack, 3) as loops:
            for n in range(20):
                assert (await ask(stack, ECHO, n=n)).holes == {"n": n}
            assert not any(loop.done() for loop in loops)

    stack.pool.wait(story())


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ("open('/etc/passwd')", Fault.MODULE_RAISED),
        ("socket.socket()", Fault.MODULE_RAISED),
        ("return f(1)", Fault.EXHAUSTED),
        ("return 'not a proposal'", Fault.ANSWER_REFUSED),
        ("return sign", Fault.MODULE_RAISED),
        ("return {'formula': 'f', 'holes': {'x': 'a' * 100000}}", Fault.ANSWER_REFUSED),
        ("return {'formula': 'f', 'holes': {'x': 1 / 2}}", Fault.ANSWER_REFUSED),
    ],
)
def test_bad_modules_get_constant_errors(stack: Stack, body: str, kind: Fault) -> None:
    source = f"def f(n):\n    return f(n)\ndef sign(request, credential, clock):\n    {body}\n"
    with pytest.raises((ModuleRefused, SandboxBroken)) as caught:
        call(stack, source)
    assert caught.value.fault is kind
    assert call(stack, ECHO).holes == {"n": 1}


def test_an_exception_of_the_module_is_the_callers_and_its_text_is_dropped(stack: Stack) -> None:
    call(stack, PICKY)
    stack.settle(2)
    before = stack.workers()
    with pytest.raises(BadInput) as caught:
        call(stack, PICKY, n=0)
    assert caught.value.message == "the module refused the request"
    assert call(stack, PICKY).formula == "f"
    assert stack.workers() == before  # no violation: a caller can't make us replace workers


def test_a_worker_is_replaced_after_a_violation(stack: Stack) -> None:
    source = "def sign(request, credential, clock):\n"
    source += "    return [] if request['n'] else {'formula': 'f', 'holes': {}}\n"
    call(stack, source, n=0)
    stack.settle(2)
    first = min(stack.workers())
    with pytest.raises(InternalFault, match=r"^the module's answer was refused$"):
        call(stack, source, n=1)
    assert not Path(f"/proc/{first}").exists()
    assert call(stack, source, n=0).formula == "f"


def test_a_worker_retires_after_its_calls(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "CALLS_PER_WORKER", 5)  # loading counts
    call(stack, ECHO)
    stack.settle(2)
    first = min(stack.workers())
    for n in range(3):
        call(stack, ECHO, n=n)
    wait_gone(first)
    assert call(stack, ECHO, n=7).holes == {"n": 7}


def test_full_is_busy_at_the_deadline(stack: Stack) -> None:
    async def story() -> None:
        async with _looping(stack, 4):
            with at_least(RUNS_OUT_S), pytest.raises(Busy, match=r"^all sandbox workers are taken$"):
                await ask(stack, ECHO, deadline_s=RUNS_OUT_S)

    stack.pool.wait(story())
    assert call(stack, ECHO).holes == {"n": 1}


@asynccontextmanager
async def _looping(stack: Stack, count: int) -> AsyncIterator[list[asyncio.Task[None]]]:
    """Calls whose modules loop while the block runs; then their workers are killed."""

    async def loop(number: int) -> None:
        with pytest.raises(SandboxBroken) as ended:
            await ask(stack, LOOP + f"# {number}\n")
        assert ended.value.fault is Fault.CRASHED

    loops = [asyncio.create_task(loop(number)) for number in range(count)]
    await asyncio.to_thread(until, lambda: len(_busy(stack)) == count, "the loops")
    yield loops
    for worker in _busy(stack):
        with contextlib.suppress(ProcessLookupError):
            os.kill(worker, signal.SIGKILL)
    await asyncio.gather(*loops)


def _busy(stack: Stack) -> list[int]:
    """Workers that have run for at least 0.1 s of their own: a call that ends takes a hundredth of it."""
    return [pid for pid in stack.workers() if _ticks_of(pid) >= 0.1 * os.sysconf("SC_CLK_TCK")]


def _ticks_of(pid: int) -> int:
    """The time that a process has run, of its own and in the kernel; 0 of one that has ended meanwhile."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(fields[11]) + int(fields[12])


def test_the_longest_unused_module_makes_room(stack: Stack) -> None:
    for number in range(7):
        assert call(stack, ECHO + f"# {number}\n", n=number).holes == {"n": number}
    stack.settle(4 + 1)


def test_a_worker_that_was_killed_while_idle_is_not_an_error(stack: Stack) -> None:
    call(stack, ECHO)
    stack.settle(2)
    for worker in stack.workers():
        os.kill(worker, 9)
        wait_gone(worker)
    assert call(stack, ECHO, n=3).holes == {"n": 3}


def test_a_request_that_is_too_large_is_the_callers(stack: Stack) -> None:
    arguments = {"request": {"body": "x" * 200_000}, "credential": {}, "clock": {}}
    with pytest.raises(ModuleRefused) as caught:
        stack.pool.run(module(ECHO), "sign", arguments, PATIENCE_S)
    assert caught.value.fault is Fault.REQUEST_TOO_LARGE


@pytest.mark.parametrize("line", ['a = "\\d"', "a = 1 is 1"], ids=["escape", "is"])
def test_a_warning_of_the_compiler_ends_no_worker(stack: Stack, line: str) -> None:
    """It would be written to fd 2, which the filter forbids."""
    stack.pool.check_source(line + "\n" + ECHO)
    assert call(stack, ECHO).holes == {"n": 1}


@pytest.mark.parametrize("codec", ["idna", "no-such-codec", "utf-8", "latin-1", "ascii"])
def test_a_codec_that_is_not_loaded_is_an_error_of_the_module(stack: Stack, codec: str) -> None:
    source = "def sign(request, credential, clock):\n"
    source += f"    return {{'formula': 'f', 'holes': {{'x': 'a'.encode('{codec}').hex()}}}}\n"
    if codec in {"utf-8", "latin-1", "ascii"}:
        assert call(stack, source).holes == {"x": "61"}
        return
    with pytest.raises(ModuleRefused):
        call(stack, source)


def test_an_entry_that_is_not_there_is_refused(stack: Stack) -> None:
    with pytest.raises(ModuleRefused):
        stack.pool.run(module(ECHO), "no_such_entry", REQUEST, PATIENCE_S)


@pytest.mark.parametrize(
    ("source", "reason", "line"),
    [
        ("import os\n", Reason.NOT_ALLOWED, 1),
        ("a = 1\nb = a.__class__\n", Reason.NOT_ALLOWED, 2),
        ("a = (\n", Reason.SYNTAX, 1),
        ("a = '\ud800'\n", Reason.NOT_TEXT, 0),
        ("#" * 70_000, Reason.TOO_LARGE, 0),
        ("a = open\n", Reason.TOP_LEVEL, 0),
    ],
)
def test_the_load_check_names_reason_and_line(stack: Stack, source: str, reason: Reason, line: int) -> None:
    with pytest.raises(SourceRefused) as caught:
        stack.pool.check_source(source)
    assert (caught.value.reason, caught.value.line, caught.value.field) == (reason, line, "source")


def test_the_load_check_accepts_and_leaves_nothing(stack: Stack) -> None:
    stack.pool.check_source(CONTROL)
    stack.settle(1)


def test_a_source_that_never_ends_is_stopped(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "_CHECK_S", RUNS_OUT_S)
    with pytest.raises(SandboxBusy):
        stack.pool.check_source("while True:\n    pass\n")


def test_a_restarted_zygote_is_found_again(tmp_path: Path) -> None:
    path = tmp_path / "control"
    argv = zygote_argv(path, allowed_uids=[os.getuid()], without=[])
    first = start(argv, tmp_path)
    pool = BlockingSandbox(SandboxPool(path, max_workers=2))
    pool.run(module(CONTROL), "sign", REQUEST, PATIENCE_S)
    first.kill()
    first.wait()
    with pytest.raises(Busy, match=r"^the sandbox is restarting$"):
        pool.run(module(CONTROL), "sign", REQUEST, PATIENCE_S)
    second = start(argv, tmp_path)
    assert pool.run(module(CONTROL), "sign", REQUEST, PATIENCE_S).formula == "control"
    pool.close()
    stop(second)


@pytest.mark.parametrize("source", ["while True:\n    pass\n", LOOP], ids=["loading", "running"])
def test_a_module_whose_worker_went_with_its_zygote_is_not_blamed(stack: Stack, source: str) -> None:
    async def story() -> None:
        asked = asyncio.create_task(ask(stack, source))
        await asyncio.to_thread(until, lambda: len(_busy(stack)) == 1, "the loop")
        stack.process.kill()
        with pytest.raises(SandboxBusy) as refused:
            await asked
        assert refused.value.fault is Fault.UNAVAILABLE

    stack.pool.wait(story())
    stack.process.wait()


def test_closing_the_pool_ends_its_workers(stack: Stack) -> None:
    call(stack, ECHO)
    stack.pool.wait(stack.sandbox.close())
    stack.settle(1)
