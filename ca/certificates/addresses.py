"""Addresses as tokens carry them: an IP address, and for bootstrap tokens the port of the manager's dial-back
listener.

One spelling per address (RFC 5952; an IPv4-mapped IPv6 address is the IPv4 one), so that equality is
comparison of text.
"""

from __future__ import annotations

import ipaddress
from typing import Final

from ostiary.errors import BadInput

METADATA_SERVICES: Final = frozenset({"169.254.169.254", "fd00:ec2::254", "100.100.100.200"})
"""Where clouds answer whoever asks: never a node (link-local ones are refused anyway)."""


def parse_address(text: str) -> str:
    """An IP address in its one spelling; BadInput names `address`, also for addresses that are no node's."""
    try:
        parsed = ipaddress.ip_address(text.strip("[]"))
    except ValueError as exc:
        raise BadInput(f"address: {text[:64]!r} is not an IP address", field="address") from exc
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    if (
        parsed.is_link_local
        or parsed.is_multicast
        or parsed.is_unspecified
        or str(parsed) in METADATA_SERVICES
    ):
        raise BadInput(f"address: {parsed} is not the address of a node", field="address")
    return str(parsed)


def parse_dial_back(text: str, *, default_port: int) -> str:
    """`ADDRESS`, `ADDRESS:PORT` or `[ADDRESS]:PORT` as `ADDRESS:PORT` in one spelling; BadInput names
    `address`.
    """
    host, colon, port = text.rpartition(":")
    if not colon or (":" in host and not host.startswith("[")):
        host, port = text, str(default_port)
    if not port.isascii() or not port.isdecimal() or not 1 <= int(port) <= 65535:
        raise BadInput(f"address: {port[:16]!r} is not a port", field="address")
    address = parse_address(host)
    return f"[{address}]:{int(port)}" if ":" in address else f"{address}:{int(port)}"


def split_dial_back(dial_back: str) -> tuple[str, int]:
    """Host and port of what `parse_dial_back` wrote."""
    host, _, port = dial_back.rpartition(":")
    return host.strip("[]"), int(port)


def is_same_host(bound: str, peer: str) -> bool:
    """Whether a peer's address (as `parse_address` writes it) is the one that a token is bound to; "" is
    bound to none.
    """
    has_port = bound.startswith("[") or bound.count(":") == 1
    return bound in {"", peer} or (has_port and split_dial_back(bound)[0] == peer)
