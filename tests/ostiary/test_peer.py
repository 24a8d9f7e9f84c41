"""A peer's certificate, read once: its fields, and no identity where the names do not map."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from ostiary.identity import identity_of
from ostiary.peer import peer_item, read_peer
from tests.support.identities import NODE, Authority

AUTHORITY = Authority()


def test_a_certificate_is_read_with_its_identity() -> None:
    agent = AUTHORITY.agent("component", capabilities=["credential:use"])
    peer = read_peer(agent.certificate.public_bytes(Encoding.DER))
    assert peer.identity == identity_of(agent.certificate)
    assert peer.serial_number == agent.certificate.serial_number
    assert int(peer.serial, 16) == peer.serial_number
    assert (peer.not_before, peer.not_after) == (AUTHORITY.not_before, AUTHORITY.not_after)
    assert peer.not_before.tzinfo is not None


def test_a_certificate_whose_names_do_not_map_identifies_nobody() -> None:
    stranger = AUTHORITY.agent("component", common_name="component")
    peer = read_peer(stranger.certificate.public_bytes(Encoding.DER))
    assert peer.identity is None
    assert peer.serial == stranger.serial


def test_bytes_that_are_no_certificate_are_a_fault_of_the_caller() -> None:
    # TLS has parsed the certificate before; anything else means that the wrong bytes were passed.
    with pytest.raises(ValueError):
        read_peer(b"nonsense")


def test_an_item_names_a_peer_by_its_identity() -> None:
    agent = AUTHORITY.agent("component")
    item = peer_item(agent.serial, identity_of(agent.certificate))
    assert (item.serial, item.subsystem, item.node, item.agent) == (
        agent.serial,
        "component",
        NODE,
        agent.agent,
    )
