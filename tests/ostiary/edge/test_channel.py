"""The client end of a channel, against a hub in a thread or a bare socket that misbehaves in one respect."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ostiary.edge.channel import Client, connect, decode_answer
from ostiary.edge.frame import MalformedFrame, Status, decode_frame, encode_frame
from ostiary.edge.packet_socket import listen, widen
from ostiary.errors import BadInput, Busy, Forbidden, InternalFault, Misconfigured
from tests.support.echo_channel import ME, EchoServer
from tests.support.waiting import PATIENCE_S, RUNS_OUT_S, at_least, in_a_while_ns, until

ID = bytes(range(16))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "s"


@pytest.fixture
def echo(path: Path) -> Iterator[EchoServer]:
    server = EchoServer(path)
    yield server
    server.stop()


@pytest.fixture
def client(path: Path) -> Iterator[Client]:
    client = Client(path, expected_uids=ME)
    yield client
    client.close()


@pytest.fixture
def mute(path: Path) -> Iterator[socket.socket]:
    """A listening socket that nobody serves."""
    sock = listen(path, mode=0o600, gid=None)
    yield sock
    sock.close()


def test_an_answer_with_a_status_of_its_own_making_is_malformed() -> None:
    with pytest.raises(MalformedFrame):
        decode_answer(encode_frame(ID, 3, b""))


def test_a_call_comes_back(echo: EchoServer, client: Client) -> None:
    answer = client.call(b"hello", timeout_s=PATIENCE_S)
    assert (answer.status, answer.body) == (Status.OK, b"hello")


def test_many_threads_get_their_own_answers(echo: EchoServer, client: Client) -> None:
    wrong: list[bytes] = []

    def work(name: int) -> None:
        for n in range(100):
            body = b"%d.%d" % (name, n)
            if client.call(body, timeout_s=PATIENCE_S).body != body:
                wrong.append(body)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_the_largest_message_passes_and_one_byte_more_is_refused_by_size(
    echo: EchoServer, client: Client
) -> None:
    overhead = len(encode_frame(ID, in_a_while_ns(), b"x" * 70_000)) - 70_000
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    limit = widen(probe)
    probe.close()
    body = b"x" * (limit - overhead)
    assert client.call(body, timeout_s=PATIENCE_S).body == body
    with pytest.raises(BadInput, match=f"message of {limit + 1} bytes; a channel takes {limit}"):
        client.call(body + b"x", timeout_s=PATIENCE_S)
    assert client.call(b"still fine", timeout_s=PATIENCE_S).body == b"still fine"


def test_nobody_there_is_busy(path: Path) -> None:
    with pytest.raises(Busy, match="no peer at 's'"):
        Client(path, expected_uids=ME).call(b"", timeout_s=PATIENCE_S)


def test_a_server_of_another_user_is_refused(echo: EchoServer, path: Path) -> None:
    with pytest.raises(Forbidden) as caught:
        Client(path, expected_uids=frozenset({os.getuid() + 1})).call(b"", timeout_s=PATIENCE_S)
    assert caught.value.rule == "channel-peer"


def test_a_client_comes_back_after_its_peer_restarted(path: Path, client: Client) -> None:
    for _ in range(2):
        server = EchoServer(path)
        assert client.call(b"x", timeout_s=PATIENCE_S).body == b"x"
        server.stop()


def test_a_peer_that_dies_before_answering_is_busy_before_the_deadline(
    mute: socket.socket, client: Client
) -> None:
    def accept_and_close() -> None:
        mute.setblocking(True)
        peer, _ = mute.accept()
        peer.recv(1000)
        peer.close()

    thread = threading.Thread(target=accept_and_close)
    thread.start()
    with pytest.raises(Busy, match="went away before it answered"):
        client.call(b"x", timeout_s=PATIENCE_S)
    thread.join()


def test_a_late_answer_is_dropped_and_the_right_one_taken(mute: socket.socket, client: Client) -> None:
    def answer_twice() -> None:
        mute.setblocking(True)
        peer, _ = mute.accept()
        request_id, _, _ = decode_frame(peer.recv(1000))
        peer.send(encode_frame(bytes(16), 0, b"somebody else's"))
        peer.send(encode_frame(request_id, 0, b"mine"))
        peer.close()

    thread = threading.Thread(target=answer_twice)
    thread.start()
    assert client.call(b"x", timeout_s=PATIENCE_S).body == b"mine"
    thread.join()


def test_a_late_peer_is_busy_at_the_deadline(mute: socket.socket, path: Path) -> None:
    with at_least(RUNS_OUT_S), pytest.raises(Busy, match="did not answer in time"):
        Client(path, expected_uids=ME).call(b"x", timeout_s=RUNS_OUT_S)


def test_a_stopped_peer_costs_the_deadline_and_no_more(path: Path, client: Client) -> None:
    child = os.fork()
    if child == 0:
        EchoServer(path)
        signal.pause()
    try:
        until(lambda: _listens(path))
        assert client.call(b"x", timeout_s=PATIENCE_S).body == b"x"
        os.kill(child, signal.SIGSTOP)
        os.waitpid(child, os.WUNTRACED)  # until each of its threads stands still
        with pytest.raises(Busy, match="in time"):
            client.call(b"x", timeout_s=RUNS_OUT_S)
        os.kill(child, signal.SIGCONT)
        assert client.call(b"y", timeout_s=PATIENCE_S).body == b"y"
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_a_full_backlog_is_busy_and_never_blocks(mute: socket.socket, path: Path) -> None:
    mute.listen(0)
    held = []
    with pytest.raises(Busy, match="no peer"):
        for _ in range(1000):
            held.append(connect(path, expected_uids=ME))
    for sock in held:
        sock.close()


def test_calls_in_flight_are_bounded(mute: socket.socket, path: Path) -> None:
    client = Client(path, expected_uids=ME, max_connections=1)

    def hold() -> None:
        with contextlib.suppress(Busy):
            client.call(b"x", timeout_s=PATIENCE_S)

    thread = threading.Thread(target=hold)
    thread.start()
    mute.setblocking(True)
    peer, _ = mute.accept()
    peer.recv(1000)
    with pytest.raises(Busy, match="in flight"):
        client.call(b"x", timeout_s=PATIENCE_S)
    peer.close()
    thread.join()


def test_a_client_does_not_survive_a_fork(echo: EchoServer, client: Client) -> None:
    client.call(b"x", timeout_s=PATIENCE_S)
    child = os.fork()
    if child == 0:
        try:
            client.call(b"x", timeout_s=PATIENCE_S)
        except InternalFault:
            os._exit(0)
        os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def test_a_closed_client_is_busy(echo: EchoServer, client: Client) -> None:
    client.call(b"x", timeout_s=PATIENCE_S)
    client.close()
    with pytest.raises(Busy, match="closed"):
        client.call(b"x", timeout_s=PATIENCE_S)


def test_a_path_that_no_address_holds_is_named() -> None:
    with pytest.raises(Misconfigured, match="has 108 bytes; at most 107"):
        Client(Path("/" + "a" * 107), expected_uids=ME)


def _listens(path: Path) -> bool:
    try:
        connect(path, expected_uids=ME).close()
    except Busy:
        return False
    return True
