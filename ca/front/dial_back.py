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

All within DIAL_S, and only so many at once, because each keeps one of the front's threads. No chain is
verified: one certificate is expected and compared whole, and a first certificate may lack serverAuth.

Precedent: ACME's tls-alpn-01 (RFC 8737; for addresses RFC 8738) proves control of a name in a like way.
"""

from __future__ import annotations

import hmac
import ipaddress
import socket
import ssl
import threading
import time
from typing import Final

from ca.certificates.addresses import parse_node_address
from ostiary.address import parse_address
from ostiary.errors import Busy, Forbidden

DIAL_S: Final = 3.0
RULE: Final = "dial-back"


class Dialler:
    """`prove_by_dial`, at most `max_at_once` at a time in this worker. Thread-safe."""

    def __init__(self, *, max_at_once: int) -> None:
        self._lines = threading.BoundedSemaphore(max_at_once)

    def prove(self, address_text: str | None, host: str, expected_der: bytes) -> None:
        """Dial and compare, or raise Busy at once."""
        if not self._lines.acquire(blocking=False):
            raise Busy("dial-back: too many at once", retry_after_s=int(DIAL_S))
        try:
            prove_by_dial(address_text, host=host, expected_der=expected_der)
        finally:
            self._lines.release()


def prove_by_dial(address_text: str | None, *, host: str, expected_der: bytes) -> None:
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
        shown = _shown_certificate(address, port, host)
    except ssl.SSLError as exc:
        raise Forbidden(
            f"dial-back: {where} did not complete a TLS 1.3 handshake: {exc.reason}", rule=RULE
        ) from exc
    except TimeoutError as exc:
        raise Forbidden(f"dial-back: {where} did not answer within {DIAL_S:.0f} s", rule=RULE) from exc
    except OSError as exc:
        raise Forbidden(f"dial-back: {where} did not answer: {exc.strerror}", rule=RULE) from exc
    # 4.
    if not hmac.compare_digest(shown, expected_der):
        raise Forbidden(
            f"dial-back: {where} showed a certificate other than the pending one of '{host}'", rule=RULE
        )


def _shown_certificate(address: str, port: int, host: str) -> bytes:
    """The certificate (DER) whose key the peer proved to hold; empty when it showed none."""
    deadline = time.monotonic() + DIAL_S
    with socket.create_connection((address, port), timeout=DIAL_S) as sock:
        # create_connection would look up a name, and try several addresses: the peer must be at this very
        # one.
        connected = sock.getpeername()[0]
        if ipaddress.ip_address(connected) != ipaddress.ip_address(address):
            raise Forbidden(f"dial-back: reached '{connected}' instead of '{address}'", rule=RULE)
        sock.settimeout(max(0.01, deadline - time.monotonic()))
        # For the handshake as a whole, not for each read: a peer that sends a byte a second gains nothing by
        # it.
        with _context().wrap_socket(sock, server_hostname=host) as tls:
            return tls.getpeercert(True) or b""


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # One certificate is expected and compared whole (see above), so there is no chain and no name to verify.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["http/1.1"])
    return context
