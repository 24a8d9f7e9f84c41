"""One channel, its other end held by the test: what is taken for an answer, and what ends it."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from credsvc.sandbox import frames
from credsvc.sandbox.client.control import SpawnedWorker
from credsvc.sandbox.client.faults import Fault, SandboxFault
from credsvc.sandbox.client.link import Link
from credsvc.sandbox.client.messages import Reply
from credsvc.sandbox.frames import Kind, Outcome
from tests.support.waiting import PATIENCE_S, RUNS_OUT_S, at_least

DONE: Reply = (Outcome.DONE, b"{}")


@pytest.fixture
def worker() -> Iterator[socket.socket]:
    """The worker's end; the host's is `OURS[worker]`."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    OURS[theirs] = ours
    with theirs:
        yield theirs
    del OURS[theirs]


OURS: dict[socket.socket, socket.socket] = {}
Story = Callable[[Link, list[Link]], Coroutine[Any, Any, None]]


def tell(worker: socket.socket, story: Story) -> None:
    """Run a story with a link and the list of those that became noisy."""

    async def told() -> None:
        noisy: list[Link] = []
        link = Link(
            SpawnedWorker(worker_id=7, pid=os.getpid(), channel=OURS[worker]), "d", on_noise=noisy.append
        )
        try:
            await story(link, noisy)
        finally:
            link.close()

    asyncio.run(told())


def ask(link: Link, *, within_s: float = PATIENCE_S) -> asyncio.Future[list[Reply]]:
    return link.ask(Kind.CALL, b"question", asyncio.get_running_loop().time() + within_s)


def nonce_of(worker: socket.socket) -> bytes:
    kind, nonce, body = frames.unpack_request(worker.recv(frames.MAX_REQUEST_BYTES))
    assert (kind, body) == (Kind.CALL, b"question")
    return nonce


async def fault_of(answer: asyncio.Future[list[Reply]]) -> Fault:
    with pytest.raises(SandboxFault) as caught:
        await answer
    return caught.value.fault


async def turn() -> None:
    """Let the loop look at its channels once."""
    for _ in range(3):
        await asyncio.sleep(0)


def test_an_answer_with_the_nonce_is_taken(worker: socket.socket) -> None:
    async def story(link: Link, noisy: list[Link]) -> None:
        nonces = set()
        for _ in range(3):
            answer = ask(link)
            nonces.add(nonce := nonce_of(worker))
            worker.send(frames.pack_answers(nonce, [DONE]))
            assert await answer == [DONE]
            assert link.is_quiet()
        assert (link.calls, len(nonces), noisy) == (3, 3, [])

    tell(worker, story)


@pytest.mark.parametrize(
    ("forge", "kind"),
    [
        (lambda _nonce: bytes(16) + b"d{}", Fault.ANSWER_REFUSED),
        (lambda nonce: nonce + b"?{}", Fault.ANSWER_REFUSED),
        (lambda nonce: nonce, Fault.ANSWER_REFUSED),
        (lambda nonce: nonce + b"d{}" + b" " * 70_000, Fault.ANSWER_REFUSED),
        (lambda _nonce: b"", Fault.CRASHED),
    ],
    ids=["other nonce", "unknown outcome", "short", "long", "empty"],
)
def test_what_is_no_answer(worker: socket.socket, forge: Callable[[bytes], bytes], kind: Fault) -> None:
    async def story(link: Link, noisy: list[Link]) -> None:
        answer = ask(link)
        worker.send(forge(nonce_of(worker)))
        assert await fault_of(answer) is kind
        assert not link.is_quiet()

    tell(worker, story)


def test_a_worker_that_ends_has_crashed(worker: socket.socket) -> None:
    async def story(link: Link, noisy: list[Link]) -> None:
        answer = ask(link)
        worker.close()
        assert await fault_of(answer) is Fault.CRASHED
        assert await fault_of(ask(link)) is Fault.CRASHED

    tell(worker, story)


def test_the_deadline(worker: socket.socket) -> None:
    async def story(link: Link, noisy: list[Link]) -> None:
        with at_least(RUNS_OUT_S):
            assert await fault_of(ask(link, within_s=RUNS_OUT_S)) is Fault.TIMEOUT

    tell(worker, story)


@pytest.mark.parametrize("says", [b"x", None], ids=["speaks", "ends"])
def test_noise_while_idle(worker: socket.socket, says: bytes | None) -> None:
    async def story(link: Link, noisy: list[Link]) -> None:
        if says is None:
            worker.close()
        else:
            worker.send(says)
        assert not link.is_quiet()
        assert noisy == []
        await turn()
        assert noisy == [link]
        assert not link.is_quiet()

    tell(worker, story)


@pytest.mark.parametrize("is_first", [True, False], ids=["before the answer", "after it"])
def test_a_cancelled_callers_answer_is_still_taken(worker: socket.socket, is_first: bool) -> None:
    """Neither order of cancellation and answer loses it, or leaves it for the next request."""

    async def story(link: Link, noisy: list[Link]) -> None:
        answer = ask(link)
        nonce = nonce_of(worker)
        if not is_first:
            worker.send(frames.pack_answers(nonce, [DONE]))
            await turn()
        answer.cancel()
        orphan = link.orphan()
        if is_first:
            worker.send(frames.pack_answers(nonce, [DONE]))
        assert await orphan == [DONE]
        assert link.is_quiet()
        assert noisy == []

    tell(worker, story)


def test_an_answer_that_comes_before_the_cancelled_caller_has_noticed(worker: socket.socket) -> None:
    async def story(link: Link, noisy: list[Link]) -> None:
        answer = ask(link)
        answer.cancel()
        worker.send(frames.pack_answers(nonce_of(worker), [DONE]))
        await turn()
        assert await link.orphan() == [DONE]

    tell(worker, story)


def test_a_cancelled_callers_deadline_stays(worker: socket.socket) -> None:
    async def story(link: Link, noisy: list[Link]) -> None:
        ask(link, within_s=RUNS_OUT_S).cancel()
        assert await fault_of(link.orphan()) is Fault.TIMEOUT

    tell(worker, story)
