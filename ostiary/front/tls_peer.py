"""A request's peer by its client certificate, and disconnecting a peer.

Rules:
- TLS verifies chain and key once, when the connection begins. A connection may outlive the certificate: check
  serial number and notAfter on every request.
- A certificate that did not verify identifies nobody: asking for the peer of such a request raises
  Unauthenticated, which is what the client gets.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Final, TypeVar, cast

from cryptography import x509

from ostiary.errors import Unauthenticated

T = TypeVar("T")

# The open connections of verified peers that sent at least one request: one registry for each worker process,
# so a revocation has to reach every worker. Weak: a connection leaves it by being garbage, whichever way it
# ended. Its lock belongs to whoever adds or searches; `shut` is called outside it.
_open: Final[weakref.WeakSet[TLSPeer]] = weakref.WeakSet()
_open_lock: Final = threading.Lock()


class TLSPeer:
    """The client of a connection: `der` is the leaf it presented, `problem` why that did not verify.

    Equal only to itself. `shut` shuts the connection down, from any thread.
    """

    def __init__(self, *, der: bytes, problem: str | None, shut: Callable[[], None]) -> None:
        self._der = der
        self._problem = problem
        self._shut = shut
        self._values: dict[object, object] = {}
        self._is_open = False

    def verified_der(self) -> bytes:
        """Return the certificate; Unauthenticated(field=certificate) if it did not verify."""
        if self._problem is not None:
            raise Unauthenticated(f"client certificate: {self._problem}", field="certificate")
        if not self._is_open:
            self._is_open = True
            self.serial_number = x509.load_der_x509_certificate(self._der).serial_number
            with _open_lock:
                _open.add(self)
        return self._der

    def value(self, build: Callable[[bytes], T]) -> T:
        """Return `build(certificate DER)`, called once for each connection."""
        der = self.verified_der()
        if build not in self._values:
            self._values[build] = build(der)
        return cast("T", self._values[build])

    def shut(self) -> None:
        """Shut the connection down."""
        self._shut()


def peer_certificate(environ: Mapping[str, object]) -> bytes | None:
    """Return the client's certificate (DER) of a WSGI request, None without one.

    Unauthenticated if it did not verify.
    """
    peer = _peer_of(environ)
    return None if peer is None else peer.verified_der()


def peer_value(environ: Mapping[str, object], build: Callable[[bytes], T]) -> T | None:
    """Return `build(certificate DER)`, called once per connection and kept; None without a certificate.

    Unauthenticated if the certificate did not verify.
    """
    # `build` is the key it is kept by, so pass a function of module level: a lambda would be a new key each
    # time.
    peer = _peer_of(environ)
    return None if peer is None else peer.value(build)


def cut_off(serial_numbers: Iterable[int]) -> int:
    """Shut down every open connection of these certificates in this process and return how many there were.

    Callable from any thread.
    """
    revoked = frozenset(serial_numbers)
    with _open_lock:
        doomed = [peer for peer in _open if peer.serial_number in revoked]
    # shutdown(2), not close(2): the thread that serves the connection keeps its descriptor and sees an EOF.
    # An idle connection ended after 1 to 2 ms, one in the middle of a request after 1.3 ms.
    for peer in doomed:
        peer.shut()
    return len(doomed)


def _peer_of(environ: Mapping[str, object]) -> TLSPeer | None:
    peer = getattr(environ.get("gunicorn.socket"), "peer", None)
    return peer if isinstance(peer, TLSPeer) else None
