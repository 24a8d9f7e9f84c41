"""The manager's TLS endpoint, where the authority dials back to the manager and the node controller.

Rules:
- A client learns which certificate's key this address holds, and nothing more: the server closes after the
  handshake. SNI (RFC 6066 section 3) selects the certificate.
- TLS 1.3 only; an unknown name gets an alert. Keys reach OpenSSL by a sealed memfd (`ostiary.edge.tls`).
- The handshake may take `HANDSHAKE_S`, the client's reaction as long again; beyond `MAX_CONNECTIONS`, new
  connections are closed at once.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import ssl
import threading
from collections.abc import Callable
from typing import Final

from ostiary.edge.tls import server_context

HANDSHAKE_S: Final = 5.0
MAX_CONNECTIONS: Final = 16  # a thread each; the authority dials back for two agents
# Two agents, each with a current and a next generation, with room for the ones before.
_MAX_CONTEXTS: Final = 8
_log = logging.getLogger("ostiary.certmgr")


class ProofListener:
    """Serves a listening TCP socket until `stop`.

    `identity_pem_of` returns key and chain (PEM) for a host name, None for an unknown one; it is called from
    many threads.
    """

    def __init__(self, sock: socket.socket, *, identity_pem_of: Callable[[str], bytes | None]) -> None:
        self._sock = sock
        self._identity_pem_of = identity_pem_of
        self._contexts: dict[bytes, ssl.SSLContext] = {}
        self._slots = threading.BoundedSemaphore(MAX_CONNECTIONS)
        # It has no certificate of its own: `_choose` replaces it during the handshake.
        self._front = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._front.minimum_version = ssl.TLSVersion.TLSv1_3
        self._front.num_tickets = 0
        self._front.set_alpn_protocols(["http/1.1"])
        self._front.sni_callback = self._choose

    def run(self) -> None:
        """Accept connections until the socket is closed."""
        while True:
            try:
                connection, _ = self._sock.accept()
            except OSError:
                return
            if not self._slots.acquire(blocking=False):
                connection.close()
                continue
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def stop(self) -> None:
        """Close the socket; open connections end by their deadline."""
        # shutdown(2) first: close alone does not wake a thread that waits in accept(2).
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()

    def _answer(self, connection: socket.socket) -> None:
        try:
            connection.settimeout(HANDSHAKE_S)
            with self._front.wrap_socket(connection, server_side=True) as wrapped:
                # The client judges the certificate after the server's last message, so wait for its alert or
                # its close: closing first could reset the connection before it has read everything.
                wrapped.recv(1)
        except (OSError, ValueError) as exc:
            _log.info("handshake-failed", extra={"reason": getattr(exc, "reason", type(exc).__name__)})
        finally:
            connection.close()
            self._slots.release()

    def _choose(self, sock: ssl.SSLObject, name: str | None, _front: ssl.SSLContext) -> int | None:
        identity_pem = self._identity_pem_of(name or "")
        if identity_pem is None:
            return int(ssl.AlertDescription.ALERT_DESCRIPTION_UNRECOGNIZED_NAME)
        # Assigning `context` within the callback is how the ssl module switches certificates by SNI.
        sock.context = self._context(identity_pem)
        return None

    def _context(self, identity_pem: bytes) -> ssl.SSLContext:
        context = self._contexts.get(identity_pem)
        if context is None:
            # Renewals leave contexts behind; starting over costs 1.5 ms for each that is still in use.
            if len(self._contexts) >= _MAX_CONTEXTS:
                self._contexts.clear()
            context = server_context(identity_pem)
            self._contexts[identity_pem] = context
        return context
