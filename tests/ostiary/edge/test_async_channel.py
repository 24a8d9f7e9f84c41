"""The client end of a channel for an event loop, against a hub in a thread or a bare socket on the same loop
that misbehaves in one respect.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ostiary.edge.async_channel import AsyncClient
from ostiary.edge.frame import Status, encode_frame
from ostiary.edge.packet import encode_packets
from ostiary.errors import Busy, Forbidden, InternalFault, Misconfigured
from tests.support.bare_channel import BareServer, begin, on_loop, turns_of_the_loop
from tests.support.echo_channel import ME, EchoServer
from tests.support.waiting import PATIENCE_S, RUNS_OUT_S, at_least

ID = bytes(16)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "s"


@pytest.fixture
def echo(path: Path) -> Iterator[EchoServer]:
    server = EchoServer(path)
    yield server
    server.stop()


@pytest.fixture
def bare(path: Path) -> Iterator[BareServer]:
    server = BareServer(path)
    yield server
    server.close()


def test_a_call_comes_back(echo: EchoServer, path: Path) -> None:
    async def story(client: AsyncClient) -> None:
        answer = await client.call(b"hello", timeout_s=PATIENCE_S)
        assert (answer.status, answer.body) == (Status.OK, b"hello")

    on_loop(path, story)


def test_many_calls_share_one_connection_and_get_their_own_answers(echo: EchoServer, path: Path) -> None:
    async def story(client: AsyncClient) -> None:
        for _ in range(5):
            bodies = [b"%d" % number for number in range(100)]
            answers = await asyncio.gather(*(client.call(body, timeout_s=PATIENCE_S) for body in bodies))
            assert [answer.body for answer in answers] == bodies

    on_loop(path, story)
    assert echo.arrivals == 1


def test_answers_find_their_calls_in_any_order_and_others_are_dropped(bare: BareServer, path: Path) -> None:
    async def story(client: AsyncClient) -> None:
        first, second = begin(client, b"1"), begin(client, b"2")
        async with bare.accept() as peer:
            heard = [await peer.hear(), await peer.hear()]
            peer.say(bytes(16), b"somebody else's")
            for request_id, body in reversed(heard):
                peer.say(request_id, b"to " + body)
            assert [(await first).body, (await second).body] == [b"to 1", b"to 2"]

    on_loop(path, story)


def test_several_answers_may_come_in_one_packet(bare: BareServer, path: Path) -> None:
    async def story(client: AsyncClient) -> None:
        calls = [begin(client, b"%d" % number) for number in range(3)]
        async with bare.accept() as peer:
            heard = [await peer.hear() for _ in calls]
            answers = [(request_id, Status.OK, b"to " + body) for request_id, body in heard]
            (packet,) = encode_packets([(bytes(16), 0, b"somebody else's"), *answers], limit_bytes=10_000)
            peer.sock.send(packet)
            assert [(await call).body for call in calls] == [b"to 0", b"to 1", b"to 2"]

    on_loop(path, story)


def test_one_wake_up_takes_all_answers_that_wait(bare: BareServer, path: Path) -> None:
    async def story(client: AsyncClient) -> None:
        calls = [begin(client, b"x") for _ in range(20)]
        async with bare.accept() as peer:
            heard = [await peer.hear() for _ in calls]
            for request_id, body in heard:
                peer.say(request_id, body)
            await turns_of_the_loop()
            assert all(call.done() for call in calls)

    on_loop(path, story)


def test_a_late_peer_is_busy_at_the_deadline_and_its_late_answer_is_dropped(
    bare: BareServer, path: Path
) -> None:
    async def story(client: AsyncClient) -> None:
        late = begin(client, b"1", RUNS_OUT_S)
        async with bare.accept() as peer:
            late_id, _ = await peer.hear()
            with pytest.raises(Busy, match="'s' did not answer in time"):
                await late
            following = begin(client, b"2")
            peer.say(late_id, b"late")
            peer.say((await peer.hear())[0], b"mine")
            assert (await following).body == b"mine"

    with at_least(RUNS_OUT_S):
        on_loop(path, story)


def test_calls_in_flight_are_bounded_and_places_come_back(bare: BareServer, path: Path) -> None:
    async def story(client: AsyncClient) -> None:
        first = begin(client, b"1")
        async with bare.accept() as peer:
            first_id, _ = await peer.hear()
            with pytest.raises(Busy, match="too many calls to 's' in flight"):
                await client.call(b"2", timeout_s=PATIENCE_S)
            peer.say(first_id, b"")
            await first
            third = begin(client, b"3")
            assert (await peer.hear())[1] == b"3"
            third.cancel()

    on_loop(path, story, max_in_flight=1)


def test_a_cancelled_call_is_forgotten_and_frees_its_place(bare: BareServer, path: Path) -> None:
    async def story(client: AsyncClient) -> None:
        cancelled = begin(client, b"1")
        async with bare.accept() as peer:
            cancelled_id, _ = await peer.hear()
            cancelled.cancel()
            # The answer is read before the caller has run: between the two, its future is done and its id
            # known.
            peer.say(cancelled_id, b"")
            with pytest.raises(asyncio.CancelledError):
                await cancelled
            following = begin(client, b"2")
            peer.say((await peer.hear())[0], b"mine")
            assert (await following).body == b"mine"

    on_loop(path, story, max_in_flight=1)


def test_nobody_there_is_busy(path: Path) -> None:
    async def story(client: AsyncClient) -> None:
        with pytest.raises(Busy, match="no peer at 's'"):
            await client.call(b"", timeout_s=PATIENCE_S)

    on_loop(path, story)


def test_a_server_of_another_user_is_refused(echo: EchoServer, path: Path) -> None:
    async def run() -> None:
        client = AsyncClient(path, expected_uids=frozenset({os.getuid() + 1}))
        with pytest.raises(Forbidden) as caught:
            await client.call(b"", timeout_s=PATIENCE_S)
        assert caught.value.rule == "channel-peer"

    asyncio.run(run())


def test_a_client_comes_back_after_its_peer_restarted(path: Path) -> None:
    async def story(client: AsyncClient) -> None:
        for _ in range(2):
            server = EchoServer(path)
            assert (await client.call(b"x", timeout_s=PATIENCE_S)).body == b"x"
            # No turn of the loop in between: the next call finds out by its own send.
            server.stop()

    on_loop(path, story)


@pytest.mark.parametrize(
    "last_words", [b"", b"\xc1", encode_frame(b"short", 0, b""), b"\x91" + encode_frame(ID, 3, b"")]
)
def test_a_peer_that_ends_or_says_no_answer_ends_all_calls_and_the_next_connects_again(
    bare: BareServer, path: Path, last_words: bytes
) -> None:
    async def story(client: AsyncClient) -> None:
        calls = [begin(client, b"x") for _ in range(3)]
        async with bare.accept() as peer:
            for _ in calls:
                await peer.hear()
            if last_words:
                peer.sock.send(last_words)
            else:
                peer.sock.close()
            for call in calls:
                with pytest.raises(Busy, match="'s' went away before it answered"):
                    await call
        following = begin(client, b"y")
        async with bare.accept() as peer:
            peer.say((await peer.hear())[0], b"again")
            assert (await following).body == b"again"

    on_loop(path, story)


def test_what_a_peer_answered_before_it_went_is_heard_although_a_send_finds_it_gone(
    bare: BareServer, path: Path
) -> None:
    async def story(client: AsyncClient) -> None:
        answered, lost = begin(client, b"1"), begin(client, b"2")
        async with bare.accept() as peer:
            (answered_id, _), _ = await peer.hear(), await peer.hear()
            peer.say(answered_id, b"last words")
        following = begin(client, b"3")  # runs before the loop looks at its sockets
        async with bare.accept() as peer:
            peer.say((await peer.hear())[0], b"new")
            assert [(await answered).body, (await following).body] == [b"last words", b"new"]
            with pytest.raises(Busy, match="went away"):
                await lost

    on_loop(path, story)


def test_a_closed_client_is_busy(bare: BareServer, path: Path) -> None:
    async def story(client: AsyncClient) -> None:
        in_flight = begin(client, b"x")
        await turns_of_the_loop()
        client.close()
        for call in (in_flight, begin(client, b"y")):
            with pytest.raises(Busy, match="channel to 's' is closed"):
                await call

    on_loop(path, story)


def test_a_client_does_not_survive_a_fork(echo: EchoServer, path: Path) -> None:
    async def story(client: AsyncClient) -> None:
        await client.call(b"x", timeout_s=PATIENCE_S)
        child = os.fork()
        if child == 0:
            refused = 0
            for use in (client.call(b"x", timeout_s=PATIENCE_S).__await__().__next__, client.close):
                try:
                    use()
                except InternalFault:
                    refused += 1
            os._exit(0 if refused == 2 else 1)
        _, status = os.waitpid(child, 0)  # noqa: ASYNC222 - the loop has nothing else to do
        assert os.waitstatus_to_exitcode(status) == 0
        assert (await client.call(b"y", timeout_s=PATIENCE_S)).body == b"y"

    on_loop(path, story)


def test_a_client_is_made_on_a_loop(path: Path) -> None:
    with pytest.raises(RuntimeError, match="no running event loop"):
        AsyncClient(path, expected_uids=ME)


def test_a_path_that_no_address_holds_is_named() -> None:
    with pytest.raises(Misconfigured, match="has 108 bytes; at most 107"):
        AsyncClient(Path("/" + "a" * 107), expected_uids=ME)
