"""The peer of a request by its client certificate, and cutting a peer off.

Rules:
- TLS has verified chain and key once, when the connection began; a connection may outlive both: check serial
  and notAfter on every request.
- A certificate that did not verify is nobody's: whoever asks for the peer of its request gets
  Unauthenticated, and so does the client.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Final, TypeVar, cast

from cryptography import x509

from ostiary.errors import Unauthenticated

T = TypeVar("T")

# Open connections whose good certificate was asked for, in at least one request; one registry per worker
# process.
_open: Final[weakref.WeakSet[TLSPeer]] = weakref.WeakSet()
_open_lock: Final = threading.Lock()


class TLSPeer:
    """Who is at the other end of a connection: `der` is the leaf as it was shown, `problem` why it is not to
    be believed.

    Equal only to itself. `shut` shuts the connection, from any thread.
    """

    def __init__(self, *, der: bytes, problem: str | None, shut: Callable[[], None]) -> None:
        self._der = der
        self._problem = problem
        self._shut = shut
        self._values: dict[object, object] = {}
        self._is_open = False

    def verified_der(self) -> bytes:
        """The certificate; Unauthenticated(field=certificate) where it did not verify."""
        if self._problem is not None:
            raise Unauthenticated(f"client certificate: {self._problem}", field="certificate")
        if not self._is_open:
            self._is_open = True
            self.serial_number = x509.load_der_x509_certificate(self._der).serial_number
            with _open_lock:
                _open.add(self)
        return self._der

    def value(self, build: Callable[[bytes], T]) -> T:
        """`build(certificate DER)`, called once and kept."""
        der = self.verified_der()
        if build not in self._values:
            self._values[build] = build(der)
        return cast("T", self._values[build])

    def shut(self) -> None:
        """Shut the connection."""
        self._shut()


def peer_certificate(environ: Mapping[str, object]) -> bytes | None:
    """The client's certificate (DER) of a WSGI request, None without one; Unauthenticated where it did not
    verify.
    """
    peer = _peer_of(environ)
    return None if peer is None else peer.verified_der()


def peer_value(environ: Mapping[str, object], build: Callable[[bytes], T]) -> T | None:
    """`build(certificate DER)`, called once per connection and kept with it; None without a certificate.

    Give a function of the module's level (it is the key), such as one that parses the certificate's identity.
    Unauthenticated where the certificate did not verify.
    """
    peer = _peer_of(environ)
    return None if peer is None else peer.value(build)


def cut_off(serial_numbers: Iterable[int]) -> int:
    """Shut every open connection of these certificates in this process, from any thread; how many
    there were.
    """
    revoked = frozenset(serial_numbers)
    with _open_lock:
        doomed = [peer for peer in _open if peer.serial_number in revoked]
    for peer in doomed:
        peer.shut()
    return len(doomed)


def _peer_of(environ: Mapping[str, object]) -> TLSPeer | None:
    peer = getattr(environ.get("gunicorn.socket"), "peer", None)
    return peer if isinstance(peer, TLSPeer) else None
