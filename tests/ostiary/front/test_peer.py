"""A request's peer: parsed once per connection, nobody if its certificate is bad, cut off by its serial."""

from __future__ import annotations

import os
import socket

import pytest

from ostiary.errors import Unauthenticated
from ostiary.front.peer import (
    Peer,
    acting_for,
    cut_off,
    peer_certificate,
    peer_credentials,
    peer_pidfd,
    peer_source,
    peer_value,
)
from tests.support.pki import Leaf, Root

LEAF = Root().leaf("agent.shop.example")


def peer(problem: str | None = None, cuts: list[str] | None = None, leaf: Leaf = LEAF) -> Peer:
    heard = cuts if cuts is not None else []
    made = Peer(source="192.0.2.7", unix=None, cut=lambda: heard.append("cut"))
    made.present(leaf.der, problem)
    return made


def test_a_connection_without_a_certificate_has_none() -> None:
    with acting_for(Peer(source="192.0.2.7", unix=None, cut=lambda: None)):
        assert peer_certificate() is None
        assert peer_value(len) is None
        assert peer_credentials() is None
        assert peer_pidfd() is None
        assert peer_source() == "192.0.2.7"


def test_outside_of_a_connection_there_is_nobody() -> None:
    assert peer_certificate() is None
    assert peer_credentials() is None
    assert peer_source() == ""


def test_what_is_built_of_a_certificate_is_built_once() -> None:
    calls: list[bytes] = []

    def build(der: bytes) -> int:
        calls.append(der)
        return len(calls)

    with acting_for(peer()):
        assert [peer_value(build), peer_value(build)] == [1, 1]
        assert peer_certificate() == LEAF.der
    assert calls == [LEAF.der]


def test_a_certificate_that_did_not_verify_is_nobodys() -> None:
    with acting_for(peer("it has expired")):
        for ask in (peer_certificate, lambda: peer_value(len)):
            with pytest.raises(Unauthenticated, match="client certificate: it has expired") as refused:
                ask()
            assert refused.value.field == "certificate"


def test_a_unix_peer_is_known_by_the_kernel() -> None:
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with here, there, acting_for(Peer(source="", unix=here, cut=lambda: None)):
        credentials = peer_credentials()
        assert credentials is not None
        assert (credentials.pid, credentials.uid) == (os.getpid(), os.getuid())
        assert peer_certificate() is None


def test_all_connections_of_a_serial_are_cut_and_no_others() -> None:
    cuts: list[str] = []
    leaf = Root().leaf("agent.shop.example")
    first, second = peer(cuts=cuts, leaf=leaf), peer(cuts=cuts, leaf=leaf)
    stranger = peer("it has expired", cuts, leaf)  # shows the same serial, proves nothing
    for each in (first, second):
        each.certificate()
    with pytest.raises(Unauthenticated):
        stranger.certificate()
    assert cut_off([leaf.certificate.serial_number + 1]) == 0
    assert cut_off([leaf.certificate.serial_number]) == 2
    assert cuts == ["cut", "cut"]
    for each in (first, second, stranger):
        each.gone()
    assert cut_off([leaf.certificate.serial_number]) == 0
