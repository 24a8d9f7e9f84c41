"""Sockets of a channel: what they refuse, who is at the other end, and that nothing blocks."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from ostiary.edge.channel import connect
from ostiary.edge.frame import MAX_FRAME_BYTES, MalformedFrame, encode_frame
from ostiary.edge.packet_socket import Connection, PeerClosed, check_path, listen, peer_of, widen
from ostiary.errors import BadInput, Busy, Misconfigured

ME = frozenset({os.getuid()})
ID = bytes(range(16))


@pytest.fixture
def silent(tmp_path: Path) -> Iterator[socket.socket]:
    """A listening socket that nobody serves."""
    sock = listen(tmp_path / "s", mode=0o600, gid=None)
    yield sock
    sock.close()


@pytest.fixture
def pair() -> Iterator[tuple[Connection, socket.socket]]:
    """Our end with its buffer, and the bare socket of the other."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    widen(theirs)
    yield Connection(ours, bytearray(MAX_FRAME_BYTES)), theirs
    ours.close()
    theirs.close()


def test_the_kernel_says_who_the_peer_is(pair: tuple[Connection, socket.socket]) -> None:
    peer = peer_of(pair[0].sock)
    assert (peer.pid, peer.uid, peer.gid) == (os.getpid(), os.getuid(), os.getgid())


def test_one_packet_at_a_time_is_received_whole(pair: tuple[Connection, socket.socket]) -> None:
    connection, far = pair
    assert connection.receive() is None
    far.send(b"one")
    far.send(b"another")
    assert [bytes(connection.receive() or b"") for _ in range(2)] == [b"one", b"another"]


def test_the_end_of_the_peer_is_told_by_receive_and_by_send(pair: tuple[Connection, socket.socket]) -> None:
    connection, far = pair
    far.close()
    with pytest.raises(PeerClosed):
        connection.receive()
    with pytest.raises(PeerClosed):
        connection.send(b"x")


def test_a_packet_beyond_a_frame_is_malformed_never_cut(pair: tuple[Connection, socket.socket]) -> None:
    connection, far = pair
    far.send(bytes(MAX_FRAME_BYTES + 1))
    with pytest.raises(MalformedFrame):
        connection.receive()


def test_a_message_beyond_the_limit_is_its_senders_error(pair: tuple[Connection, socket.socket]) -> None:
    connection, _ = pair
    with pytest.raises(BadInput, match=f"a channel takes {connection.limit_bytes}"):
        connection.send(bytes(connection.limit_bytes + 1))


def test_a_full_socket_is_busy_and_never_blocks(silent: socket.socket, tmp_path: Path) -> None:
    connection = Connection(connect(tmp_path / "s", expected_uids=ME), bytearray(MAX_FRAME_BYTES))
    packet = encode_frame(ID, 0, bytes(100_000))
    with pytest.raises(Busy, match="channel is full"):
        for _ in range(1000):
            connection.send(packet)
    connection.close()


def test_the_mode_is_right_before_anybody_can_connect(silent: socket.socket, tmp_path: Path) -> None:
    assert (tmp_path / "s").stat().st_mode & 0o777 == 0o600


def test_a_socket_that_a_dead_role_left_is_replaced(silent: socket.socket, tmp_path: Path) -> None:
    again = listen(tmp_path / "s", mode=0o600, gid=None)
    connect(tmp_path / "s", expected_uids=ME).close()
    again.accept()[0].close()
    with pytest.raises(BlockingIOError):
        silent.accept()
    again.close()


def test_the_longest_path_is_accepted_and_one_byte_more_is_named() -> None:
    check_path(Path("/" + "a" * 106))
    with pytest.raises(Misconfigured, match="has 108 bytes; at most 107"):
        check_path(Path("/" + "a" * 107))


def test_a_file_in_the_way_is_not_deleted(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_text("precious")
    with pytest.raises(Misconfigured, match="is not a socket"):
        listen(path, mode=0o600, gid=None)
    assert path.read_text() == "precious"
