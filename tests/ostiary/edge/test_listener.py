"""Whom a listening socket admits."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from ostiary.edge.listener import Listener
from ostiary.edge.packet_socket import PeerCredentials, peer_of

NOBODY: frozenset[int] = frozenset()
STRANGER = PeerCredentials(pid=1, uid=os.getuid() + 1, gid=os.getgid() + 1)


@pytest.fixture
def pair() -> Iterator[socket.socket]:
    """One end of a connection whose other end is this process, too."""
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with near, far:
        yield near


def listener(
    sock: socket.socket, *, uids: frozenset[int] = NOBODY, gids: frozenset[int] = NOBODY, places: int = 1
) -> Listener:
    return Listener(sock, "test", allowed_uids=uids, allowed_gids=gids, max_peers=places)


def test_a_user_or_a_first_group_admits_and_nothing_else(pair: socket.socket) -> None:
    me = peer_of(pair)
    assert listener(pair, uids=frozenset({me.uid})).admits(pair, me)
    assert listener(pair, gids=frozenset({me.gid})).admits(pair, me)
    assert not listener(pair).admits(pair, me)
    assert not listener(pair, uids=frozenset({me.uid})).admits(pair, STRANGER)


def test_nobody_is_admitted_without_a_place(pair: socket.socket) -> None:
    me = peer_of(pair)
    full = listener(pair, uids=frozenset({me.uid}), places=1)
    full.peers = 1
    assert not full.admits(pair, me)
