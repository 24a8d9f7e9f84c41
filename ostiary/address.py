"""Socket addresses as people write them: `HOST:PORT`, and `[HOST]:PORT` for an IPv6 host.

Rules:
- The one place that reads and writes this notation (RFC 3986 section 3.2.2 and 3.2.3, without user
  information).
- An IPv6 host stands in brackets, and nothing else does: in `::1:8443` nobody can tell the port from the
  address.
- Port 0 is refused. To a kernel it means "any free port" (ip(7)), which no client could know.
- What a name resolves to, and whether this host may bind the address, shows when a socket is made of it.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Final

from ostiary.errors import BadInput

# A DNS name or an IPv4 address. Underscores are no host name's (RFC 952), but resolvers and container
# networks know them.
_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,253}")
_PORT: Final = re.compile(r"[0-9]{1,5}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """An address to listen on or connect to; `host` has no brackets, and `str` writes them."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str, *, field: str) -> Address:
    """Parse `HOST:PORT` or `[HOST]:PORT`; BadInput names `field`."""
    host, _, port = text.rpartition(":")
    if not _PORT.fullmatch(port) or not 1 <= int(port) <= 65535:
        raise BadInput(f"{field}: {text[:128]!r} is not HOST:PORT with a port from 1 to 65535", field=field)
    if host.startswith("[") and host.endswith("]"):
        return Address(host=_ipv6(host[1:-1], field=field), port=int(port))
    if not _NAME.fullmatch(host):
        wanted = "[HOST]:PORT, as an IPv6 address needs it" if ":" in host else "HOST:PORT"
        raise BadInput(f"{field}: {text[:128]!r} is not {wanted}", field=field)
    return Address(host=host, port=int(port))


def _ipv6(text: str, *, field: str) -> str:
    """Check what stands between brackets; a zone (`fe80::1%eth0`, RFC 4007 section 11) is allowed."""
    try:
        ipaddress.IPv6Address(text)
    except ValueError as exc:
        raise BadInput(f"{field}: '{text[:64]}' in brackets is not an IPv6 address", field=field) from exc
    return text
