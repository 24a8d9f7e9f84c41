"""The fronts' end of TLS, by pyOpenSSL (this file alone knows it): who shows a bad certificate is told so, in
HTTP.

OpenSSL verifies a client's chain during the handshake, and would end it with an alert that many clients never
show. Here the handshake ends well whatever the verdict, the verdict is kept with the connection, and every
request on it is refused with a problem document (`ostiary.front.tls_peer`). Python's ssl module has no place
for such a verdict.

Rules:
- A certificate is a peer's only if OpenSSL found its leaf good and reported no error at all (RFC 5280 section
  6, X509_STRICT); that the client has the key is TLS's own check (RFC 8446 section 4.4.3), which still ends
  the handshake.
- TLS 1.3 only; no session is resumed: a resumed one skips the check of the client's certificate. OpenSSL
  still sends tickets (pyOpenSSL can't stop it); they name sessions that nobody keeps. They do carry the ACK
  of the handshake, without which a client's first request waits 40 ms (its Nagle's algorithm meets our
  delayed ACK).
- Exchanges end, and writes leave together (`ostiary.front.guarded_socket`).
- The key reaches OpenSSL from memory.
What is *not* checked here: revocation, validity after the handshake, names (`ostiary.identity`), and what a
peer may do.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import logging
import select
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from OpenSSL import SSL
from OpenSSL.crypto import X509, X509StoreFlags

from ostiary.errors import Misconfigured
from ostiary.front.guarded_socket import ExchangeDeadline, HeldWrites
from ostiary.front.tls_peer import TLSPeer

T = TypeVar("T")
_SigningKey: TypeAlias = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey
ClientCertificates = Literal["required", "optional"]

_log = logging.getLogger("ostiary.front")
_HTTP: Final = b"http/1.1"
_VERIFY_MODES: Final[dict[ClientCertificates, int]] = {
    "required": SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT,
    "optional": SSL.VERIFY_PEER,
}
_NO_CERTIFICATE: Final = "peer did not return a certificate"
# openssl/x509_vfy.h. What a client can do something about; for the rest the number must do.
_PROBLEMS: Final = {
    2: "it was not issued under this service's root",
    7: "its signature is not by whom it names",
    9: "it is not valid yet",
    10: "it has expired",
    18: "it is signed by itself, not under this service's root",
    19: "its chain ends in a root that is not this service's",
    20: "it was not issued under this service's root",
    21: "it was not issued under this service's root",
    26: "it is not for TLS clients",
}


class _Verdict:
    """What OpenSSL says of a client's chain, gathered during the handshake."""

    def __init__(self) -> None:
        self._first_error: int | None = None
        self._leaf_is_good = False

    def hear(self, error: int, depth: int, *, ok: bool) -> None:
        if not ok and self._first_error is None:
            self._first_error = error
        if ok and depth == 0:
            self._leaf_is_good = True

    def problem(self) -> str | None:
        """What is wrong with the certificate, None if nothing is."""
        if self._first_error is None and self._leaf_is_good:
            return None
        error = self._first_error or 0
        return _PROBLEMS.get(error, f"it does not verify (X.509 error {error})")


@dataclass(frozen=True, slots=True)
class FrontTLS:
    """What a front shows to its clients and asks of them; for any number of connections."""

    context: SSL.Context

    def accept(self, sock: socket.socket, *, exchange_s: float) -> TLSSocket:
        """Take over an accepted socket; the handshake is still to be done."""
        return TLSSocket(sock, self.context, exchange_s=exchange_s)


def front_tls(identity_pem: bytes, root_pem: bytes, *, client_certificates: ClientCertificates) -> FrontTLS:
    """Build it; `identity_pem` is key and chain (leaf first) in one PEM, `root_pem` the trusted root. `Misconfigured`
    where they do not load.
    """
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    context.set_options(SSL.OP_NO_TICKET)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    context.set_verify(_VERIFY_MODES[client_certificates], _keep_verdict)
    # Says what is spoken, so that the connection can't be taken for another protocol's (ALPACA, 2021).
    context.set_alpn_select_callback(_choose_protocol)
    _trust(context, root_pem)
    _load_identity(context, identity_pem)
    return FrontTLS(context)


def _keep_verdict(connection: SSL.Connection, _certificate: X509, error: int, depth: int, ok: int) -> bool:
    connection.get_app_data().hear(error, depth, ok=bool(ok))
    return True


def _choose_protocol(_connection: SSL.Connection, offered: list[bytes]) -> Any:
    return _HTTP if _HTTP in offered else SSL.NO_OVERLAPPING_PROTOCOLS


def _trust(context: SSL.Context, root_pem: bytes) -> None:
    store = context.get_cert_store()
    if store is None:
        raise AssertionError("a new context has no store")
    try:
        store.add_cert(X509.from_cryptography(x509.load_pem_x509_certificate(root_pem)))
    except ValueError as exc:
        raise Misconfigured("the trusted root is not a PEM certificate") from exc
    store.set_flags(X509StoreFlags.X509_STRICT)


def _load_identity(context: SSL.Context, identity_pem: bytes) -> None:
    try:
        key = _signing_key(identity_pem)
        leaf, *above = x509.load_pem_x509_certificates(identity_pem)
        context.use_certificate(leaf)
        for certificate in above:
            context.add_extra_chain_cert(certificate)
        context.use_privatekey(key)
        context.check_privatekey()
    except (TypeError, ValueError, SSL.Error) as exc:
        raise Misconfigured("key and certificate do not load") from exc


def _signing_key(identity_pem: bytes) -> _SigningKey:
    key = load_pem_private_key(identity_pem, password=None)
    if not isinstance(key, _SigningKey):
        raise Misconfigured("the key is neither EC, Ed25519 nor RSA")
    return key


class TLSSocket(HeldWrites):
    """The server's end of one TLS connection: as much of a socket as gunicorn uses, and its peer.

    One thread at a time, but for the peer's `shut`. Errors are OSErrors: BlockingIOError where a non-blocking
    call would wait.
    """

    def __init__(self, sock: socket.socket, context: SSL.Context, *, exchange_s: float) -> None:
        self.peer: TLSPeer | None = None
        """Who is at the other end, once the handshake is done; None without a certificate."""
        sock.setblocking(False)
        self._sock = sock
        self._deadline = ExchangeDeadline(exchange_s)
        self._held = bytearray()
        self._is_connected = False
        self._verdict = _Verdict()
        self._tls = SSL.Connection(context, sock)
        self._tls.set_app_data(self._verdict)
        self._tls.set_accept_state()

    def fileno(self) -> int:
        return self._sock.fileno()

    def setblocking(self, flag: bool) -> None:  # noqa: FBT001 - socket's signature
        """Begin an exchange, or wait for nothing."""
        self._deadline.begin(blocking=flag)

    def do_handshake(self) -> None:
        """Go on with the handshake, if it has not ended; `peer` is known then."""
        if self._is_connected:
            return
        try:
            self._retry(self._tls.do_handshake)
        except TLSError as exc:
            if _NO_CERTIFICATE in str(exc):
                # There is no HTTP to answer in yet: the client gets an alert, the log what was wrong.
                _log.info("client certificate refused", extra={"reason": "missing", "source": self._source()})
            raise
        self._is_connected = True
        certificate = self._tls.get_peer_certificate(as_cryptography=True)
        if certificate is not None:
            self.peer = TLSPeer(
                der=certificate.public_bytes(Encoding.DER),
                problem=self._verdict.problem(),
                shut=functools.partial(_shut, self._sock),
            )

    def recv(self, bufsize: int = 8192, flags: int = 0) -> bytes:  # noqa: ARG002 - socket's signature
        """Up to `bufsize` bytes; none when the client has ended, with or without a word of it (lengths are
        HTTP's).
        """
        self.flush()
        try:
            return self._retry(self._tls.recv, bufsize)
        except _Ended:
            return b""

    def pending(self) -> int:
        """How many decrypted bytes are left, which no longer make the socket readable."""
        return self._tls.pending()

    def shutdown(self, how: int) -> None:
        """Say that nothing follows (close_notify), then shut the socket."""
        with contextlib.suppress(SSL.Error):
            self._tls.shutdown()
        self._sock.shutdown(how)

    def discard(self, nbytes: int) -> int:
        """Throw away up to `nbytes` as they came, without decrypting; how many."""
        return len(self._sock.recv(nbytes))

    def close(self) -> None:
        """Close the socket; the descriptor may be another's from now on, so nothing is done by it
        any more.
        """
        self._sock.close()

    def _transmit(self, data: bytes) -> None:
        self._deadline.begin_writing()
        left = memoryview(data)
        while left:
            left = left[self._retry(self._tls.send, left) :]

    def _source(self) -> str:
        with contextlib.suppress(OSError):
            return str(self._sock.getpeername()[0])
        return ""

    def _retry(self, act: Callable[..., T], *args: object) -> T:
        """Do it, wait as long as the exchange allows when OpenSSL must, and turn its errors into OSErrors."""
        while True:
            if self._sock.fileno() < 0:
                raise ConnectionResetError(errno.ECONNRESET, "closed")
            try:
                return act(*args)
            except SSL.WantReadError:
                self._wait(select.POLLIN)
            except SSL.WantWriteError:
                self._wait(select.POLLOUT)
            except (SSL.ZeroReturnError, SSL.SysCallError) as exc:
                raise _Ended(errno.ECONNRESET, "closed by the client") from exc
            except SSL.Error as exc:
                raise TLSError(errno.EPROTO, "; ".join(_reasons(exc))) from exc

    def _wait(self, event: int) -> None:
        left_s = self._deadline.left_s()
        if left_s is None:
            raise BlockingIOError("would wait")
        poll = select.poll()
        poll.register(self._sock, event)
        poll.poll(left_s * 1000)


def _shut(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


class TLSError(OSError):
    """The client does not speak TLS as it must; the message is OpenSSL's own words."""


class _Ended(ConnectionResetError):
    """The client has ended the connection."""


def _reasons(error: SSL.Error) -> Iterator[str]:
    for each in error.args[0] if error.args else ():
        yield each[-1]
