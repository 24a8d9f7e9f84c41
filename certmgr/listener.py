"""The manager's own endpoint: it answers the authority's dial-back for itself and the node controller, told
apart by SNI.

Rules:
- Whoever connects learns which certificate this address has the key of, and nothing more: after the handshake
  we close.
- TLS 1.3; a name that is not one of ours gets an alert. Keys reach OpenSSL by a sealed memfd
  (`ostiary.edge.tls`).
- The handshake has `HANDSHAKE_S`, the client's word after it as long again; only `MAX_CONNECTIONS` are open
  at once: others are closed unheard.
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
MAX_CONNECTIONS: Final = 16
_MAX_CONTEXTS: Final = 8
_log = logging.getLogger("ostiary.certmgr")


class ProofListener:
    """Serves on a listening TCP socket until `stop`; `identity_pem_of` gives key and chain (PEM) for a host name,
    or None.
    """

    def __init__(self, sock: socket.socket, *, identity_pem_of: Callable[[str], bytes | None]) -> None:
        self._sock = sock
        self._identity_pem_of = identity_pem_of
        self._contexts: dict[bytes, ssl.SSLContext] = {}
        self._slots = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self._front = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._front.minimum_version = ssl.TLSVersion.TLSv1_3
        self._front.num_tickets = 0
        self._front.set_alpn_protocols(["http/1.1"])
        self._front.sni_callback = self._choose

    def run(self) -> None:
        """Accept until the socket is closed."""
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
        """Close the socket; connections end by their deadline."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()

    def _answer(self, connection: socket.socket) -> None:
        try:
            connection.settimeout(HANDSHAKE_S)
            with self._front.wrap_socket(connection, server_side=True) as wrapped:
                # The client's verdict on our certificate comes after our last message: wait for it, or for
                # its end.
                wrapped.recv(1)
        except (OSError, ValueError) as exc:
            _log.info("handshake failed", extra={"reason": getattr(exc, "reason", type(exc).__name__)})
        finally:
            connection.close()
            self._slots.release()

    def _choose(self, sock: ssl.SSLObject, name: str | None, _front: ssl.SSLContext) -> int | None:
        identity_pem = self._identity_pem_of(name or "")
        if identity_pem is None:
            return int(ssl.AlertDescription.ALERT_DESCRIPTION_UNRECOGNIZED_NAME)
        sock.context = self._context(identity_pem)
        return None

    def _context(self, identity_pem: bytes) -> ssl.SSLContext:
        context = self._contexts.get(identity_pem)
        if context is None:
            if len(self._contexts) >= _MAX_CONTEXTS:
                self._contexts.clear()
            context = server_context(identity_pem)
            self._contexts[identity_pem] = context
        return context
