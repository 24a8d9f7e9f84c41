"""What a client on an event loop does while its socket takes no more: the peer, a bare socket on the same
loop, does not read before the test says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from ostiary.edge.async_channel import MAX_UNSENT, MAX_UNSENT_BYTES, AsyncClient
from ostiary.edge.channel import Answer
from ostiary.edge.frame import MAX_FRAME_BYTES
from ostiary.errors import BadInput, Busy
from tests.support.bare_channel import BareServer, begin, on_loop, turns_of_the_loop
from tests.support.waiting import PATIENCE_S, RUNS_OUT_S

LARGE = bytes(100_000)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "s"


@pytest.fixture
def bare(path: Path) -> Iterator[BareServer]:
    server = BareServer(path)
    yield server
    server.close()


async def fill(client: AsyncClient) -> list[asyncio.Task[Answer]]:
    """Calls until two of them wait for the socket."""
    calls: list[asyncio.Task[Answer]] = []
    while len(client._unsent) < 2:
        calls.append(begin(client, LARGE))
        await turns_of_the_loop(1)
    return calls


def test_while_the_socket_is_full_calls_wait_in_order(bare: BareServer, path: Path) -> None:
    async def story(client: AsyncClient) -> None:
        calls = await fill(client)
        calls.append(begin(client, b"the last"))
        async with bare.accept() as peer:
            heard = [await peer.hear() for _ in calls]
            assert [body for _, body in heard] == [LARGE] * (len(calls) - 1) + [b"the last"]
            for request_id, _ in heard:
                peer.say(request_id, b"")
            await asyncio.gather(*calls)
            # Nothing waits any more, so nothing watches for room.
            assert not client._unsent_bytes
            assert not client._loop.remove_writer(peer.sock)

    on_loop(path, story)


def test_what_waits_for_the_socket_is_bounded_in_number(bare: BareServer, path: Path) -> None:
    async def story(client: AsyncClient) -> None:
        calls = await fill(client)
        calls += [begin(client, b"x") for _ in range(MAX_UNSENT - 2)]
        await turns_of_the_loop()
        with pytest.raises(Busy, match="channel to 's' is full"):
            await client.call(b"x", timeout_s=PATIENCE_S)
        assert not any(call.done() for call in calls)
        client.close()
        await asyncio.gather(*calls, return_exceptions=True)

    on_loop(path, story)


def test_what_waits_for_the_socket_is_bounded_in_bytes(bare: BareServer, path: Path) -> None:
    async def story(client: AsyncClient) -> None:
        calls = await fill(client)
        calls += [begin(client, LARGE) for _ in range(MAX_UNSENT_BYTES // len(LARGE) - 2)]
        await turns_of_the_loop()
        with pytest.raises(Busy, match="channel to 's' is full"):
            await client.call(LARGE, timeout_s=PATIENCE_S)
        assert not any(call.done() for call in calls)
        client.close()
        await asyncio.gather(*calls, return_exceptions=True)

    on_loop(path, story)


def test_a_call_that_ends_while_it_waits_for_the_socket_is_never_sent(bare: BareServer, path: Path) -> None:
    async def story(client: AsyncClient) -> None:
        calls = await fill(client)
        expired, cancelled = begin(client, b"expired", RUNS_OUT_S), begin(client, b"cancelled")
        with pytest.raises(Busy, match="in time"):
            await expired
        cancelled.cancel()
        calls.append(begin(client, b"the last"))
        async with bare.accept() as peer:
            bodies = [(await peer.hear())[1] for _ in calls]
            assert bodies == [LARGE] * (len(calls) - 1) + [b"the last"]
        await asyncio.gather(*calls, return_exceptions=True)

    on_loop(path, story)


def test_a_peer_that_ends_while_calls_wait_for_the_socket_ends_them(bare: BareServer, path: Path) -> None:
    async def story(client: AsyncClient) -> None:
        calls = await fill(client)
        async with bare.accept():
            pass
        for call in calls:
            with pytest.raises(Busy, match="went away"):
                await call

    on_loop(path, story)


def test_a_message_that_is_too_large_is_refused_and_no_other(bare: BareServer, path: Path) -> None:
    async def story(client: AsyncClient) -> None:
        with pytest.raises(BadInput, match="a channel takes"):
            await client.call(bytes(MAX_FRAME_BYTES), timeout_s=PATIENCE_S)
        calls = await fill(client)
        refused = begin(client, bytes(MAX_FRAME_BYTES))  # behind others, so it is not looked at yet
        calls.append(begin(client, b"the last"))
        async with bare.accept() as peer:
            for _ in calls:
                peer.say((await peer.hear())[0], b"")
            await asyncio.gather(*calls)
            with pytest.raises(BadInput, match="a channel takes"):
                await refused

    on_loop(path, story)
