"""The manager's TLS endpoint, where the authority dials back to the manager and the node controller.

Rules:
- A client learns which certificate's key this address holds, and nothing more: the server closes after the
  handshake. SNI (RFC 6066 section 3) selects the certificate.
- TLS 1.3 only; an unknown name gets an alert. Keys reach OpenSSL by a sealed memfd (`ostiary.edge.tls`).
- The handshake may take `HANDSHAKE_S`, the client's reaction as long again. Beyond `MAX_CONNECTIONS`, or for
  one address half of that, the connection that has waited longest makes room (`ostiary.front.room`).

TLS runs over memory: asyncio's own drops a refused handshake without its alert. All of it is the loop's.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable
from typing import Final, cast

from ostiary.edge.tls import server_context
from ostiary.front.room import Phase, Room, RoomLimits

HANDSHAKE_S: Final = 5.0
MAX_CONNECTIONS: Final = 16  # the authority dials back for two agents
_SWEEP_S: Final = 0.25
# Two agents, each with a current and a next generation, with room for the ones before.
_MAX_CONTEXTS: Final = 8
_log = logging.getLogger("ostiary.certmgr")


class ProofListener:
    """Serves a listening TCP socket while `run` is awaited.

    `identity_pem_of` returns key and chain (PEM) for a host name, None for an unknown one.
    """

    def __init__(self, sock: socket.socket, *, identity_pem_of: Callable[[str], bytes | None]) -> None:
        self._sock = sock
        self._identity_pem_of = identity_pem_of
        self._contexts: dict[bytes, ssl.SSLContext] = {}
        self._room: Room[_Proof] = Room(
            RoomLimits(
                connections=MAX_CONNECTIONS,
                source_connections=MAX_CONNECTIONS // 2,
                # Nothing is held but OpenSSL's buffers: it refuses records beyond their size.
                held_bytes=0,
                source_held_bytes=0,
                seconds=dict.fromkeys(Phase, HANDSHAKE_S),
            )
        )
        # It has no certificate of its own: `_choose` replaces it during the handshake.
        self._front = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._front.minimum_version = ssl.TLSVersion.TLSv1_3
        self._front.num_tickets = 0
        self._front.set_alpn_protocols(["http/1.1"])
        self._front.sni_callback = self._choose

    async def run(self) -> None:
        """Serve until cancelled; then the socket and all connections are closed."""
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _Proof(self._room, self._front), sock=self._sock)
        try:
            while True:
                await asyncio.sleep(_SWEEP_S)
                for late in self._room.expired(loop.time()):
                    late.end("late")
        finally:
            server.close()
            for each in self._room:
                each.end("stopped")

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


class _Proof(asyncio.Protocol):
    """One connection: a handshake, then the client's alert or close.

    The client judges the certificate after the server's last message: closing first could reset the
    connection before it has read everything.
    """

    def __init__(self, room: Room[_Proof], context: ssl.SSLContext) -> None:
        self._room = room
        self._received, self._to_send = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._received, self._to_send, server_side=True)
        self._is_shaken = False
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        address = transport.get_extra_info("peername")
        must_go = self._room.enter(self, str(address[0]) if address else "", _now_s())
        if must_go is not None:
            must_go.end("no room")

    def data_received(self, data: bytes) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        self._received.write(data)
        try:
            if not self._is_shaken:
                self._tls.do_handshake()
                self._is_shaken = True
                self._room.move(self, Phase.LEAVING, _now_s())
                self._flush(self._transport)
            self._tls.read(1)
        except ssl.SSLWantReadError:
            self._flush(self._transport)
            return
        except ssl.SSLZeroReturnError:
            pass  # closed, as it should be
        except (OSError, ValueError) as exc:  # ValueError: a server name that is not ASCII
            # `SSLError.reason` is a name of OpenSSL's, never the client's text.
            _note(getattr(exc, "reason", None) or type(exc).__name__)
        self._flush(self._transport)
        self._transport.close()

    def connection_lost(self, _exc: Exception | None) -> None:
        self._room.leave(self)
        self._transport = None

    def end(self, reason: str) -> None:
        """Close now, whatever the client does."""
        if not self._is_shaken:
            _note(reason)
        # At once: `connection_lost` comes in the loop's next round, and a newcomer of this one needs a place
        # of its own.
        self._room.leave(self)
        if self._transport is not None:
            self._transport.abort()

    def _flush(self, transport: asyncio.Transport) -> None:
        if self._to_send.pending:
            transport.write(self._to_send.read())


def _note(reason: str) -> None:
    _log.info("handshake-failed", extra={"reason": reason})


def _now_s() -> float:
    return asyncio.get_running_loop().time()
