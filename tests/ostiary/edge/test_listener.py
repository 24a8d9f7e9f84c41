"""Whom a listening socket admits."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ostiary.edge.listener import Listener
from ostiary.edge.packet_socket import PeerCredentials, listen, peer_of
from tests.support.need import require_root

NOBODY: frozenset[int] = frozenset()
GROUP = 61_999
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


CONNECTED = """
import socket, sys
sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
sock.connect(sys.argv[1])
sys.stdin.read()
"""


@pytest.mark.parametrize(("others", "is_admitted"), [(0, True), (255, True), (256, False)])
def test_a_supplementary_group_admits_somebody_who_is_in_at_most_256(
    tmp_path: Path, others: int, is_admitted: bool
) -> None:
    require_root()
    groups = [*range(70_000, 70_000 + others), GROUP]
    with listen(tmp_path / "s", mode=0o600, gid=None) as sock:
        sock.setblocking(True)
        argv = [sys.executable, "-c", CONNECTED, str(tmp_path / "s")]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, extra_groups=groups) as child:
            near, _ = sock.accept()
            with near:
                assert peer_of(near).pid == child.pid
                assert listener(near, gids=frozenset({GROUP})).admits(near, STRANGER) == is_admitted
                assert not listener(near, gids=frozenset({GROUP + 1})).admits(near, STRANGER)
            child.communicate()


def test_nobody_is_admitted_without_a_place(pair: socket.socket) -> None:
    me = peer_of(pair)
    full = listener(pair, uids=frozenset({me.uid}), places=1)
    full.peers = 1
    assert not full.admits(pair, me)
