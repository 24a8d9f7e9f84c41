"""The CA's dial-back: whoever answers at the address fixed in the token must hold the key of the pending
certificate.

Plan:
1. The address comes from the certificate's row, which has it from the token; never from the request.
   Otherwise any agent could have the CA connect anywhere (server-side request forgery, CWE-918).
2. It is an IP address and a port, and not one that a cloud or a network reserves
   (ca/certificates/addresses.py: link-local, metadata services, multicast). Loopback is allowed: a machine
   may enroll itself.
3. Connect to it by TLS 1.3 with SNI `<agent>.<node>`. The handshake proves that the peer holds the key of the
   certificate that it shows (CertificateVerify, RFC 8446 section 4.4.3).
4. That certificate is the pending one, byte for byte, so key and serial number are the same, too.

All within DIAL_S, and only so many at once. No chain is verified: one certificate is expected and compared
whole, and a first certificate may lack serverAuth.

Precedent: ACME's tls-alpn-01 (RFC 8737; for addresses RFC 8738) proves control of a name in a like way.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import socket
import ssl
from functools import cache
from typing import Final

from ca.certificates.addresses import parse_node_address
from ostiary.address import parse_address
from ostiary.errors import Busy, Forbidden

DIAL_S: Final = 3.0
RULE: Final = "dial-back"


class Dialler:
    """`prove_by_dial`, at most `max_at_once` at a time in this worker; for its loop."""

    def __init__(self, *, max_at_once: int) -> None:
        self._free = max_at_once

    async def prove(self, address_text: str | None, host: str, expected_der: bytes) -> None:
        """Dial and compare, or raise Busy at once."""
        if self._free <= 0:
            raise Busy("dial-back: too many at once", retry_after_s=int(DIAL_S))
        self._free -= 1
        try:
            await prove_by_dial(address_text, host=host, expected_der=expected_der)
        finally:
            self._free += 1


async def prove_by_dial(address_text: str | None, *, host: str, expected_der: bytes) -> None:
    """Dial `address_text` (as `parse_dial_back` writes it) and compare; Forbidden(rule=dial-back) says what
    went wrong. BadInput where the CA never dials such an address.
    """
    # 1. and 2. A name would be looked up now, and its answer is its owner's to choose: only addresses are
    #    dialled.
    if address_text is None:
        raise Forbidden("dial-back: the token fixed no address; confirm the node by hand", rule=RULE)
    dialled = parse_address(address_text, field="address")
    address, port = parse_node_address(dialled.host), dialled.port
    where = f"'{address}' port {port}"
    # 3.
    try:
        # For all of it, not for each read: a peer that sends a byte a second gains nothing by it.
        async with asyncio.timeout(DIAL_S):
            shown = await _shown_certificate(address, port, host)
    except ssl.SSLError as exc:
        raise Forbidden(
            f"dial-back: {where} did not complete a TLS 1.3 handshake: {exc.reason}", rule=RULE
        ) from exc
    except TimeoutError as exc:
        raise Forbidden(f"dial-back: {where} did not answer within {DIAL_S:.0f} s", rule=RULE) from exc
    except OSError as exc:
        why = exc.strerror or "it closed the connection"
        raise Forbidden(f"dial-back: {where} did not answer: {why}", rule=RULE) from exc
    # 4.
    if not hmac.compare_digest(shown, expected_der):
        raise Forbidden(
            f"dial-back: {where} showed a certificate other than the pending one of '{host}'", rule=RULE
        )


async def _shown_certificate(address: str, port: int, host: str) -> bytes:
    """The certificate (DER) whose key the peer proved to hold; empty when it showed none."""
    sock = await _connect(address, port)
    # The transport closes the socket, also where there is no handshake.
    transport, _ = await asyncio.get_running_loop().create_connection(
        asyncio.Protocol, sock=sock, ssl=_context(), server_hostname=host
    )
    shown: bytes | None = transport.get_extra_info("ssl_object").getpeercert(True)
    transport.abort()
    return shown or b""


async def _connect(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        await asyncio.get_running_loop().sock_connect(sock, (address, port))
        _check_reached(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock


def _check_reached(sock: socket.socket, address: str) -> None:
    # asyncio looks names up: the peer must be at this very address.
    connected = sock.getpeername()[0]
    if ipaddress.ip_address(connected) != ipaddress.ip_address(address):
        raise Forbidden(f"dial-back: reached '{connected}' instead of '{address}'", rule=RULE)


@cache
def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # One certificate is expected and compared whole (see above), so there is no chain and no name to verify.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["http/1.1"])
    return context
