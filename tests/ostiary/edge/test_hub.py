"""The hub: what it reports, drops and refuses."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from ostiary.edge.channel import connect
from ostiary.edge.frame import MAX_FRAME_BYTES, Status, decode_frame, encode_frame
from ostiary.edge.hub import AnswerArrived, Event, Hub, PeerArrived, PeerGone, Readable, Request, reply_all
from ostiary.edge.packet import decode_packet
from ostiary.edge.packet_socket import Connection, listen, widen
from ostiary.errors import BadInput, Busy, Forbidden
from tests.support.waiting import PATIENCE_S, at_least, in_a_while_ns

ME = frozenset({os.getuid()})
ID = bytes(range(16))


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    hub = Hub()
    hub.listen(tmp_path / "s", channel="front", allowed_uids=ME)
    yield hub
    hub.close()


@pytest.fixture
def peer(hub: Hub, tmp_path: Path) -> Iterator[socket.socket]:
    sock = connect(tmp_path / "s", expected_uids=ME)
    (arrived,) = hub.poll(PATIENCE_S)
    assert isinstance(arrived, PeerArrived)
    yield sock
    sock.close()


def requests(events: list[Event]) -> list[Request]:
    return [event for event in events if isinstance(event, Request)]


def test_one_poll_takes_all_that_waits_fairly(hub: Hub, tmp_path: Path) -> None:
    peers = [connect(tmp_path / "s", expected_uids=ME) for _ in range(3)]
    for n in range(5):
        for name, sock in enumerate(peers):
            sock.send(encode_frame(ID, in_a_while_ns(), b"%d.%d" % (name, n)))
    bodies = [event.body for event in requests(hub.poll(PATIENCE_S))]
    assert len(bodies) == 15
    assert sorted(body[:1] for body in bodies[:3]) == [b"0", b"1", b"2"]
    assert [body for body in bodies if body.startswith(b"1")] == [b"1.%d" % n for n in range(5)]
    for sock in peers:
        sock.close()


def test_a_request_says_who_asks_and_is_answered(hub: Hub, peer: socket.socket) -> None:
    deadline_ns = in_a_while_ns()
    peer.send(encode_frame(ID, deadline_ns, b"q"))
    (request,) = requests(hub.poll(PATIENCE_S))
    assert (request.channel, request.request_id, request.deadline_ns) == ("front", ID, deadline_ns)
    assert (request.peer.pid, request.peer.uid) == (os.getpid(), os.getuid())
    assert request.reply(Status.REFUSED, b"no")
    assert decode_frame(peer.recv(1000)) == (ID, 1, b"no")


def test_a_reply_to_a_peer_that_is_gone_is_dropped_and_its_end_reported(
    hub: Hub, peer: socket.socket
) -> None:
    peer.send(encode_frame(ID, in_a_while_ns(), b"q"))
    (request,) = requests(hub.poll(PATIENCE_S))
    peer.close()
    assert not request.reply(Status.OK, b"")
    assert [type(event) for event in hub.poll(PATIENCE_S)] == [PeerGone]
    assert not request.reply(Status.OK, b"")
    assert hub.poll(0) == []


def test_a_peer_that_does_not_read_loses_its_answers(hub: Hub, peer: socket.socket) -> None:
    peer.send(encode_frame(ID, in_a_while_ns(), b"q"))
    (request,) = requests(hub.poll(PATIENCE_S))
    sent = [request.reply(Status.OK, bytes(100_000)) for _ in range(100)]
    assert sent[0]
    assert not sent[-1]
    assert hub.counters.unread_answers > 0


def test_answers_to_one_peer_leave_together_and_to_another_by_themselves(
    hub: Hub, peer: socket.socket, tmp_path: Path
) -> None:
    other = connect(tmp_path / "s", expected_uids=ME)
    for number in range(3):
        peer.send(encode_frame(bytes([number]) * 16, in_a_while_ns(), b""))
    other.send(encode_frame(ID, in_a_while_ns(), b""))
    asked = requests(hub.poll(PATIENCE_S))
    reply_all((request, Status.OK, request.request_id[:1]) for request in asked)
    assert decode_packet(peer.recv(1000)) == [(bytes([n]) * 16, 0, bytes([n])) for n in range(3)]
    assert decode_packet(other.recv(1000)) == [(ID, 0, ID[:1])]
    with pytest.raises(BlockingIOError):
        peer.recv(1000, socket.MSG_DONTWAIT)
    other.close()


def test_an_answer_that_is_too_large_is_told_to_its_maker(hub: Hub, peer: socket.socket) -> None:
    peer.send(encode_frame(ID, in_a_while_ns(), b"q"))
    (request,) = requests(hub.poll(PATIENCE_S))
    with pytest.raises(BadInput, match="a channel takes"):
        request.reply(Status.OK, bytes(MAX_FRAME_BYTES))


def test_an_expired_request_is_dropped(hub: Hub, peer: socket.socket) -> None:
    peer.send(encode_frame(ID, 1, b"q"))  # a nanosecond after the machine started
    assert hub.poll(0.1) == []
    assert hub.counters.expired == 1


@pytest.mark.parametrize("packet", [b"\xc1", encode_frame(b"short", 1, b""), bytes(MAX_FRAME_BYTES + 1)])
def test_a_peer_that_sends_no_frame_is_closed(hub: Hub, peer: socket.socket, packet: bytes) -> None:
    widen(peer)
    peer.send(packet)
    (gone,) = hub.poll(PATIENCE_S)
    assert isinstance(gone, PeerGone)
    assert not gone.outgoing
    assert hub.counters.malformed == 1
    assert peer.recv(10) == b""


def test_a_stranger_is_closed_before_a_byte_is_read(tmp_path: Path) -> None:
    hub = Hub()
    hub.listen(tmp_path / "s", channel="front", allowed_uids=frozenset({os.getuid() + 1}))
    sock = connect(tmp_path / "s", expected_uids=ME)
    sock.send(encode_frame(ID, in_a_while_ns(), b"let me in"))
    assert hub.poll(0.1) == []
    assert hub.counters.refused_peers == 1
    with pytest.raises(ConnectionResetError):
        sock.recv(10)
    sock.close()
    hub.close()


def test_a_group_admits(tmp_path: Path) -> None:
    hub = Hub()
    hub.listen(
        tmp_path / "s",
        channel="admin",
        allowed_uids=frozenset(),
        allowed_gids=frozenset({os.getgid()}),
        mode=0o660,
        gid=os.getgid(),
    )
    assert (tmp_path / "s").stat().st_mode & 0o777 == 0o660
    sock = connect(tmp_path / "s", expected_uids=ME)
    assert [type(event) for event in hub.poll(PATIENCE_S)] == [PeerArrived]
    sock.close()
    hub.close()


def test_peers_are_bounded_per_listener_and_places_come_back(tmp_path: Path) -> None:
    hub = Hub()
    hub.listen(tmp_path / "s", channel="front", allowed_uids=ME, max_peers=1)
    first, second = (connect(tmp_path / "s", expected_uids=ME) for _ in range(2))
    assert [type(event) for event in hub.poll(PATIENCE_S)] == [PeerArrived]
    assert hub.counters.refused_peers == 1
    first.close()
    hub.poll(PATIENCE_S)
    third = connect(tmp_path / "s", expected_uids=ME)
    assert [type(event) for event in hub.poll(PATIENCE_S)] == [PeerArrived]
    for sock in (second, third):
        sock.close()
    hub.close()


def test_a_link_sends_hears_its_own_answers_and_ends(hub: Hub, tmp_path: Path) -> None:
    keyholder = listen(tmp_path / "k", mode=0o600, gid=None)
    link = hub.connect(tmp_path / "k", expected_uids=ME, name="keyholder")
    far, _ = keyholder.accept()
    first = link.send(b"one", deadline_ns=in_a_while_ns())
    second = link.send(b"two", deadline_ns=in_a_while_ns())
    link.forget(first)
    for request_id in (first, second, second, ID):
        far.send(encode_frame(request_id, 0, b"done"))
    (answer,) = hub.poll(PATIENCE_S)
    assert isinstance(answer, AnswerArrived)
    assert (answer.channel, answer.request_id, answer.status) == ("keyholder", second, Status.OK)
    assert hub.counters.unknown_answers == 3
    far.close()
    (gone,) = hub.poll(PATIENCE_S)
    assert isinstance(gone, PeerGone)
    assert gone.outgoing
    assert not link.alive
    with pytest.raises(Busy, match="'keyholder' is gone"):
        link.send(b"three", deadline_ns=in_a_while_ns())
    keyholder.close()


def test_a_link_whose_send_finds_it_dead_is_busy_then_gone(hub: Hub, tmp_path: Path) -> None:
    keyholder = listen(tmp_path / "k", mode=0o600, gid=None)
    link = hub.connect(tmp_path / "k", expected_uids=ME, name="keyholder")
    far, _ = keyholder.accept()
    far.close()
    with pytest.raises(Busy, match="went away"):
        link.send(b"one", deadline_ns=in_a_while_ns())
    (gone,) = hub.poll(PATIENCE_S)
    assert isinstance(gone, PeerGone)
    keyholder.close()


def test_a_link_that_is_full_is_busy_and_lives(hub: Hub, tmp_path: Path) -> None:
    keyholder = listen(tmp_path / "k", mode=0o600, gid=None)
    link = hub.connect(tmp_path / "k", expected_uids=ME, name="keyholder")
    with pytest.raises(Busy, match="full"):
        for _ in range(1000):
            link.send(bytes(100_000), deadline_ns=in_a_while_ns())
    assert link.alive
    keyholder.close()


def test_a_link_to_nobody_or_the_wrong_user_is_told(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(Busy):
        hub.connect(tmp_path / "k", expected_uids=ME, name="keyholder")
    with pytest.raises(Forbidden):
        hub.connect(tmp_path / "s", expected_uids=frozenset({os.getuid() + 1}), name="keyholder")


def test_a_watched_descriptor_is_reported_once_per_poll(hub: Hub, peer: socket.socket) -> None:
    fd = os.eventfd(0)
    hub.watch(fd, name="timer")
    os.eventfd_write(fd, 1)
    for n in range(3):
        peer.send(encode_frame(ID, in_a_while_ns(), b"%d" % n))
    events = hub.poll(PATIENCE_S)
    assert events.count(Readable(name="timer", fd=fd)) == 1
    assert len(requests(events)) == 3
    os.eventfd_read(fd)
    assert hub.poll(0) == []
    os.close(fd)


def test_poll_waits_no_longer_than_told(hub: Hub) -> None:
    with at_least(0.04):
        assert hub.poll(0.05) == []


def test_a_request_shows_no_connection_in_its_repr(hub: Hub, peer: socket.socket) -> None:
    peer.send(encode_frame(ID, in_a_while_ns(), b"q"))
    (request,) = requests(hub.poll(PATIENCE_S))
    assert "_inbound" not in repr(request)


def test_connection_buffers_are_shared_by_one_thread_only_between_reads(
    hub: Hub, peer: socket.socket
) -> None:
    peer.send(encode_frame(ID, in_a_while_ns(), b"first"))
    peer.send(encode_frame(ID, in_a_while_ns(), b"other"))
    assert [request.body for request in requests(hub.poll(PATIENCE_S))] == [b"first", b"other"]
    assert Connection.__slots__
