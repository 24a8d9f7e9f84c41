"""A request's peer: parsed once per connection, and nobody if the certificate is bad."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from ostiary.errors import Unauthenticated
from ostiary.front.tls_peer import TLSPeer, cut_off, peer_certificate, peer_value
from tests.support.pki import Root

LEAF = Root().leaf("agent.shop.example")


def peer(problem: str | None = None, cuts: list[str] | None = None) -> TLSPeer:
    heard = cuts if cuts is not None else []
    return TLSPeer(der=LEAF.der, problem=problem, shut=lambda: heard.append("shut"))


def environ(peer: TLSPeer | None) -> dict[str, object]:
    return {"gunicorn.socket": SimpleNamespace(peer=peer)}


def test_a_request_without_tls_or_without_certificate_has_none() -> None:
    for each in ({}, {"gunicorn.socket": object()}, environ(None)):
        assert peer_certificate(each) is None
        assert peer_value(each, len) is None


def test_what_is_built_of_a_certificate_is_built_once() -> None:
    calls: list[bytes] = []

    def build(der: bytes) -> int:
        calls.append(der)
        return len(calls)

    request = environ(peer())
    assert [peer_value(request, build), peer_value(request, build)] == [1, 1]
    assert calls == [LEAF.der]
    assert peer_certificate(request) == LEAF.der


def test_a_certificate_that_did_not_verify_is_nobodys() -> None:
    request = environ(peer("it has expired"))
    for ask in (lambda: peer_certificate(request), lambda: peer_value(request, len)):
        with pytest.raises(Unauthenticated, match="client certificate: it has expired") as refused:
            ask()
        assert refused.value.field == "certificate"


def test_all_connections_of_a_serial_are_cut_and_no_others() -> None:
    cuts: list[str] = []
    first, second = peer(cuts=cuts), peer(cuts=cuts)
    stranger = peer("it has expired", cuts)  # shows the same serial, proves nothing
    for each in (first, second):
        each.verified_der()
    with pytest.raises(Unauthenticated):
        stranger.verified_der()
    assert cut_off([LEAF.certificate.serial_number + 1]) == 0
    assert cut_off([LEAF.certificate.serial_number]) == 2
    assert cuts == ["shut", "shut"]
    del first, second, stranger, each
    assert cut_off([LEAF.certificate.serial_number]) == 0
