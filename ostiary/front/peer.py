"""A request's peer: its client certificate, the user behind a UNIX socket, its address; and cutting it off.

Rules:
- The peer belongs to a connection, and reaches the application by a context variable that the connection sets
  before its first request: ASGI's scope has no place for it.
- TLS verifies chain and key once, when the connection begins. A connection may outlive the certificate: check
  serial number and notAfter on every request.
- A certificate that did not verify identifies nobody: asking for the peer of such a request raises
  Unauthenticated, which is what the client gets.
- Everything here belongs to the thread of the worker's event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from typing import Final, TypeVar, cast

from cryptography import x509

from ostiary.edge.packet_socket import PeerCredentials, peer_of
from ostiary.errors import Unauthenticated

T = TypeVar("T")

# asm-generic/socket.h: a pidfd of the peer (Linux 6.5), not in Python's socket module.
_SO_PEERPIDFD: Final = 77


class Peer:
    """The client of a connection, equal only to itself.

    `source` is its IP address, empty over a UNIX socket; `unix` that socket, None over TCP; `cut` ends the
    connection at once.
    """

    def __init__(self, *, source: str, unix: socket.socket | None, cut: Callable[[], None]) -> None:
        self.source = source
        self._unix = unix
        self._cut = cut
        self._der: bytes | None = None
        self._problem: str | None = None
        self._serial_number: int | None = None
        self._values: dict[object, object] = {}

    def present(self, der: bytes, problem: str | None) -> None:
        """Note the certificate (DER) that the client showed in its handshake, and why it did not verify."""
        self._der, self._problem = der, problem

    def certificate(self) -> bytes | None:
        """Return the certificate, None without one; Unauthenticated(field=certificate) unless it verified."""
        if self._problem is not None:
            raise Unauthenticated(f"client certificate: {self._problem}", field="certificate")
        if self._der is not None and self._serial_number is None:
            self._serial_number = x509.load_der_x509_certificate(self._der).serial_number
            _connected.setdefault(self._serial_number, set()).add(self)
        return self._der

    def value(self, build: Callable[[bytes], T]) -> T | None:
        """Return `build(certificate DER)`, called once for each connection; None without a certificate."""
        der = self.certificate()
        if der is None:
            return None
        # A miss is told by its KeyError: the values are read at every request and made once.
        try:
            return cast("T", self._values[build])
        except KeyError:
            made = self._values[build] = build(der)
            return made

    @property
    def account(self) -> str:
        """Whose account its connection goes on (`ostiary.front.room`): the address, or the local user.

        Of an IPv6 address its first 64 bits: whoever has one has all of them (RFC 4291 section 2.5.4).
        """
        if self._unix is not None:
            return f"uid {peer_of(self._unix).uid}"
        if ":" not in self.source:
            return self.source
        return ipaddress.IPv6Address(self.source).exploded[:19]

    def credentials(self) -> PeerCredentials | None:
        """Return the credentials that the client had when it connected; None unless over a UNIX socket."""
        return None if self._unix is None else peer_of(self._unix)

    def pidfd(self) -> int | None:
        """Return a pidfd of the process that connected, for the caller to close.

        Unlike a pid it can never come to mean another process. None before Linux 6.5, or if it ended.
        """
        if self._unix is None:
            return None
        try:
            return self._unix.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD)
        except OSError:
            return None

    def cut(self) -> None:
        """End the connection now."""
        self._cut()

    def gone(self) -> None:
        """The connection has ended."""
        if self._serial_number is None:
            return
        peers = _connected.get(self._serial_number, set())
        peers.discard(self)
        if not peers:
            _connected.pop(self._serial_number, None)


def peer_at(side: asyncio.BaseTransport, *, cut: Callable[[], None]) -> Peer:
    """Return the peer at the other end of a transport; `cut` ends the connection."""
    sock = side.get_extra_info("socket")
    if sock.family == socket.AF_UNIX:
        return Peer(source="", unix=sock, cut=cut)
    # None where the client left before it was accepted.
    address = side.get_extra_info("peername")
    return Peer(source=str(address[0]) if address else "", unix=None, cut=cut)


# serial number -> the open connections of verified peers that sent at least one request: one registry for
# each worker process, so a revocation has to reach every worker.
_connected: Final[dict[int, set[Peer]]] = {}
# Where no connection set a peer it is nobody: no certificate, no user, and so refused.
_NOBODY: Final = Peer(source="", unix=None, cut=lambda: None)
_current: Final[ContextVar[Peer]] = ContextVar("peer", default=_NOBODY)


@contextlib.contextmanager
def acting_for(peer: Peer) -> Iterator[None]:
    """Make `peer` the current one for what begins within: tasks keep the context that they began in."""
    token = _current.set(peer)
    try:
        yield
    finally:
        _current.reset(token)


def peer_certificate() -> bytes | None:
    """Return the client's certificate (DER), None without one; Unauthenticated if it did not verify."""
    return _current.get().certificate()


def peer_value(build: Callable[[bytes], T]) -> T | None:
    """Return `build(certificate DER)`, called once per connection and kept; None without a certificate.

    Unauthenticated if the certificate did not verify.
    """
    # `build` is the key it is kept by, so pass a function of module level: a lambda would be a new key each
    # time.
    return _current.get().value(build)


def peer_credentials() -> PeerCredentials | None:
    """Return the credentials that the peer had when it connected; None unless over a UNIX socket."""
    return _current.get().credentials()


def peer_pidfd() -> int | None:
    """Return a pidfd of the process that connected, for the caller to close; None if there is none."""
    return _current.get().pidfd()


def peer_source() -> str:
    """Return the peer's IP address, empty over a UNIX socket."""
    return _current.get().source


def cut_off(serial_numbers: Iterable[int]) -> int:
    """End every open connection of these certificates in this process and return how many there were."""
    doomed = [peer for number in serial_numbers for peer in _connected.get(number, ())]
    for peer in doomed:
        peer.cut()
    return len(doomed)
