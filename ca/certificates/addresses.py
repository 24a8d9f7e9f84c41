"""Addresses as tokens carry them: an IP address, and for bootstrap tokens the port of the manager's dial-back
listener.

One spelling per address (RFC 5952; an IPv4-mapped IPv6 address is the IPv4 one), so that equality is
comparison of text.
"""

from __future__ import annotations

import ipaddress
from typing import Final

from ostiary.address import Address, parse_address
from ostiary.errors import BadInput

METADATA_SERVICES: Final = frozenset({"169.254.169.254", "fd00:ec2::254", "100.100.100.200"})
"""Instance metadata services of clouds: AWS and most others, AWS over IPv6, Alibaba. A dial to one of them
would lend the CA's network position to whoever wrote the address (CWE-918).
"""


def parse_node_address(text: str) -> str:
    """An IP address in its one spelling; BadInput names `address`, also where no node can have it."""
    try:
        parsed = ipaddress.ip_address(text.strip("[]"))
    except ValueError as exc:
        raise BadInput(f"address: {text[:64]!r} is not an IP address", field="address") from exc
    # A dual-stack listener shows IPv4 peers as ::ffff:a.b.c.d (RFC 4291 section 2.5.5.2).
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    if (
        parsed.is_link_local
        or parsed.is_multicast
        or parsed.is_unspecified
        or str(parsed) in METADATA_SERVICES
    ):
        raise BadInput(f"address: {parsed} cannot be the address of a node", field="address")
    return str(parsed)


def parse_dial_back(text: str, *, default_port: int) -> str:
    """`ADDRESS`, `ADDRESS:PORT` or `[ADDRESS]:PORT` as `ADDRESS:PORT` in one spelling; BadInput names
    `address`.
    """
    given = parse_address(text, field="address") if _has_port(text) else Address(host=text, port=default_port)
    return str(Address(host=parse_node_address(given.host), port=given.port))


def is_same_host(bound: str | None, peer: str) -> bool:
    """Whether a peer's address (as `parse_node_address` writes it) is the one that a token is bound to; a
    token that is bound to none may come from anywhere.
    """
    if bound is None:
        return True
    return bound == peer or (_has_port(bound) and parse_address(bound, field="address").host == peer)


def _has_port(text: str) -> bool:
    # More than one colon outside brackets is an IPv6 address; one colon divides a host from its port.
    return text.count(":") == 1 or (text.startswith("[") and not text.endswith("]"))
