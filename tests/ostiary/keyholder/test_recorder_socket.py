"""What every server of a channel promises its peers, asked of both: the keyholder's own, and the hub's."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest

from ostiary.edge.channel import connect
from ostiary.edge.frame import MAX_FRAME_BYTES, Status, decode_frame, encode_frame
from ostiary.edge.hub import Hub
from ostiary.edge.hub import Request as HubRequest
from ostiary.edge.packet_socket import PeerCredentials, widen
from ostiary.errors import BadInput
from ostiary.keyholder.recorder_socket import MAX_PEERS, RecorderSocket
from tests.support.waiting import in_a_while_ns

ME = frozenset({os.getuid()})
ID = bytes(range(16))


class Asked(Protocol):
    """A request, whoever took it."""

    @property
    def peer(self) -> PeerCredentials: ...
    @property
    def body(self) -> bytes: ...
    def reply(self, status: Status, body: bytes) -> bool: ...


Poll = Callable[[float], list[Asked]]
Serve = Callable[[Path, frozenset[int]], Poll]


@pytest.fixture(params=["hub", "recorder socket"])
def serve(request: pytest.FixtureRequest) -> Iterator[Serve]:
    """Makes a server at a path for some users; what it returns polls it once."""
    made: list[Hub | RecorderSocket] = []

    def by_hub(path: Path, uids: frozenset[int]) -> Poll:
        hub = Hub()
        made.append(hub)
        hub.listen(path, channel="recorder", allowed_uids=uids, max_peers=MAX_PEERS)
        return lambda timeout_s: [event for event in hub.poll(timeout_s) if isinstance(event, HubRequest)]

    def by_recorder_socket(path: Path, uids: frozenset[int]) -> Poll:
        recorders = RecorderSocket(path, recorder_uids=uids)
        made.append(recorders)
        return lambda timeout_s: [*recorders.requests(timeout_s)]

    yield by_hub if request.param == "hub" else by_recorder_socket
    for server in made:
        server.close()


@pytest.fixture
def poll(serve: Serve, tmp_path: Path) -> Poll:
    return serve(tmp_path / "s", ME)


@pytest.fixture
def peer(poll: Poll, tmp_path: Path) -> Iterator[socket.socket]:
    sock = connect(tmp_path / "s", expected_uids=ME)
    assert poll(1) == []
    yield sock
    sock.close()


def test_a_request_says_who_asks_and_is_answered_under_its_id(poll: Poll, peer: socket.socket) -> None:
    peer.send(encode_frame(ID, in_a_while_ns(), b"q"))
    (request,) = poll(1)
    assert (request.peer.pid, request.peer.uid, request.body) == (os.getpid(), os.getuid(), b"q")
    assert request.reply(Status.REFUSED, b"no")
    assert decode_frame(peer.recv(1000)) == (ID, 1, b"no")


def test_every_request_is_taken_in_its_peers_order(poll: Poll, peer: socket.socket, tmp_path: Path) -> None:
    other = connect(tmp_path / "s", expected_uids=ME)
    for n in range(5):
        peer.send(encode_frame(ID, in_a_while_ns(), b"a%d" % n))
        other.send(encode_frame(ID, in_a_while_ns(), b"b%d" % n))
    bodies: list[bytes] = []
    for _ in range(20):
        bodies += [request.body for request in poll(0.01)]
    assert [body for body in bodies if body.startswith(b"a")] == [b"a%d" % n for n in range(5)]
    assert [body for body in bodies if body.startswith(b"b")] == [b"b%d" % n for n in range(5)]
    other.close()


def test_a_loud_peer_does_not_starve_another(poll: Poll, peer: socket.socket, tmp_path: Path) -> None:
    other = connect(tmp_path / "s", expected_uids=ME)
    assert poll(1) == []
    for _ in range(50):
        peer.send(encode_frame(ID, in_a_while_ns(), b"loud"))
    other.send(encode_frame(ID, in_a_while_ns(), b"soft"))
    assert b"soft" in [request.body for request in poll(1)[:2]]
    other.close()


def test_a_stranger_is_closed_before_a_byte_is_read(serve: Serve, tmp_path: Path) -> None:
    poll = serve(tmp_path / "s", frozenset({os.getuid() + 1}))
    sock = connect(tmp_path / "s", expected_uids=ME)
    sock.send(encode_frame(ID, in_a_while_ns(), b"let me in"))
    assert poll(0.1) == []
    with pytest.raises(ConnectionResetError):
        sock.recv(10)
    sock.close()


def test_peers_are_bounded_and_places_come_back(poll: Poll, tmp_path: Path) -> None:
    peers = [connect(tmp_path / "s", expected_uids=ME) for _ in range(MAX_PEERS + 1)]
    for _ in peers:
        assert poll(0.01) == []
    refused = peers.pop()
    assert refused.recv(10) == b""
    peers.pop().close()
    assert poll(0.1) == []
    late = connect(tmp_path / "s", expected_uids=ME)
    late.send(encode_frame(ID, in_a_while_ns(), b"q"))
    assert [request.body for request in [*poll(1), *poll(0.1)]] == [b"q"]
    for sock in (late, refused, *peers):
        sock.close()


@pytest.mark.parametrize("packet", [b"\xc1", encode_frame(b"short", 1, b""), bytes(MAX_FRAME_BYTES + 1)])
def test_a_peer_that_sends_no_frame_is_closed(poll: Poll, peer: socket.socket, packet: bytes) -> None:
    widen(peer)
    peer.send(packet)
    assert poll(1) == []
    assert peer.recv(10) == b""


def test_an_expired_request_is_dropped_and_its_peer_stays(poll: Poll, peer: socket.socket) -> None:
    peer.send(encode_frame(ID, 1, b"too late"))
    assert poll(0.1) == []
    peer.send(encode_frame(ID, in_a_while_ns(), b"in time"))
    assert [request.body for request in poll(1)] == [b"in time"]


def test_a_reply_to_a_peer_that_is_gone_is_dropped(poll: Poll, peer: socket.socket) -> None:
    peer.send(encode_frame(ID, in_a_while_ns(), b"q"))
    (request,) = poll(1)
    peer.close()
    assert not request.reply(Status.OK, b"")
    assert poll(0.1) == []
    assert not request.reply(Status.OK, b"")


def test_a_peer_that_does_not_read_loses_its_answers_and_stays(poll: Poll, peer: socket.socket) -> None:
    peer.send(encode_frame(ID, in_a_while_ns(), b"q"))
    (request,) = poll(1)
    sent = [request.reply(Status.OK, bytes(100_000)) for _ in range(100)]
    assert sent[0]
    assert not sent[-1]
    for _ in range(sent.count(True)):
        assert decode_frame(peer.recv(MAX_FRAME_BYTES))[0] == ID
    assert request.reply(Status.OK, b"again")


def test_an_answer_that_is_too_large_is_told_to_its_maker(poll: Poll, peer: socket.socket) -> None:
    peer.send(encode_frame(ID, in_a_while_ns(), b"q"))
    (request,) = poll(1)
    with pytest.raises(BadInput, match="a channel takes"):
        request.reply(Status.OK, bytes(MAX_FRAME_BYTES))


def test_anybody_may_reach_the_keyholders_socket_and_its_directory_decides_who(tmp_path: Path) -> None:
    recorders = RecorderSocket(tmp_path / "s", recorder_uids=ME)
    assert (tmp_path / "s").stat().st_mode & 0o777 == 0o666
    recorders.close()


def test_a_request_shows_neither_body_nor_connection_in_its_repr(poll: Poll, peer: socket.socket) -> None:
    peer.send(encode_frame(ID, in_a_while_ns(), b"marked"))
    (request,) = poll(1)
    assert "marked" not in repr(request)
    assert "onnection" not in repr(request)
