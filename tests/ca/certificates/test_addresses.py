"""Addresses: one spelling each, and none that is no node's."""

from __future__ import annotations

import pytest

from ca.certificates.addresses import is_same_host, parse_dial_back, parse_node_address
from ostiary.errors import BadInput


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:DB8:0::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("127.0.0.1", "127.0.0.1"),
    ],
)
def test_an_address_has_one_spelling(text: str, address: str) -> None:
    assert parse_node_address(text) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "n1.example",
        "192.0.2",
        "0.0.0.0",
        "::",
        "169.254.169.254",
        "169.254.0.1",
        "fe80::1",
        "fd00:ec2::254",
        "224.0.0.1",
    ],
)
def test_what_is_no_nodes_address_is_refused(text: str) -> None:
    with pytest.raises(BadInput) as refused:
        parse_node_address(text)
    assert refused.value.field == "address"


@pytest.mark.parametrize(
    ("text", "dial_back"),
    [
        ("192.0.2.1", "192.0.2.1:7443"),
        ("192.0.2.1:8000", "192.0.2.1:8000"),
        ("2001:db8::1", "[2001:db8::1]:7443"),
        ("[2001:db8::1]:8000", "[2001:db8::1]:8000"),
    ],
)
def test_a_dial_back_has_a_port(text: str, dial_back: str) -> None:
    assert parse_dial_back(text, default_port=7443) == dial_back
    assert parse_dial_back(dial_back, default_port=1) == dial_back


@pytest.mark.parametrize(
    "text", ["192.0.2.1:0", "192.0.2.1:65536", "192.0.2.1:x", "169.254.1.1:7443", "[::1"]
)
def test_a_bad_dial_back_is_refused(text: str) -> None:
    with pytest.raises(BadInput):
        parse_dial_back(text, default_port=7443)


@pytest.mark.parametrize(
    ("bound", "peer", "same"),
    [
        (None, "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1:7443", "192.0.2.1", True),
        ("[2001:db8::1]:7443", "2001:db8::1", True),
        ("192.0.2.11:7443", "192.0.2.1", False),
        ("192.0.2.1", "192.0.2.11", False),
        ("[2001:db8::1]:7443", "2001:db8::11", False),
        # an address that begins with the other one and a colon
        ("2001:db8::1:2", "2001:db8::1", False),
    ],
)
def test_a_bound_token_comes_from_its_host(bound: str | None, peer: str, same: bool) -> None:
    assert is_same_host(bound, peer) is same
