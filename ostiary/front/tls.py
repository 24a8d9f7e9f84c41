"""The fronts' end of TLS, with pyOpenSSL, which no other file uses.

A client with a bad certificate learns the reason in HTTP (docs/adr/0016).

OpenSSL verifies a client's chain during the handshake, and would end it with an alert that many clients never
show. Here the handshake completes whatever the verdict; the verdict stays with the connection, and every
request on it is refused with a problem document (`ostiary.front.tls_peer`). Python's ssl module offers no
place for such a verdict.

Rules:
- A certificate identifies a peer only if OpenSSL found its leaf good and reported no error at all (RFC 5280
  section 6, X509_STRICT). That the client holds the key is checked by TLS itself (RFC 8446 section 4.4.3),
  and a failure still ends the handshake.
- TLS 1.3 only, and no resumption: a resumed session skips the check of the client's certificate.
- Every exchange ends, and writes leave together (`ostiary.front.guarded_socket`).
- The key reaches OpenSSL from memory.

Not checked here: revocation, validity after the handshake, names (`ostiary.identity`), what a peer may do.
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
# Error numbers of openssl/x509_vfy.h that a client can act on; for the others the number must do.
_PROBLEMS: Final = {
    2: "it was not issued under this service's root",
    7: "its issuer's signature does not verify",
    9: "it is not valid yet",
    10: "it has expired",
    18: "it is self-signed, not issued under this service's root",
    19: "its chain ends in another root than this service's",
    20: "it was not issued under this service's root",
    21: "it was not issued under this service's root",
    26: "it is not for TLS clients",
}


class _Verdict:
    """OpenSSL's findings on a client's chain, collected during the handshake."""

    def __init__(self) -> None:
        self._first_error: int | None = None
        # Set by the last call of the callback, for depth 0. If OpenSSL never got there, the certificate is
        # not good although no error was reported: silence never counts as a yes.
        self._leaf_is_good = False

    def record(self, error: int, depth: int, *, ok: bool) -> None:
        if not ok and self._first_error is None:
            self._first_error = error
        if ok and depth == 0:
            self._leaf_is_good = True

    def problem(self) -> str | None:
        """Return what is wrong with the certificate, None if nothing is."""
        if self._first_error is None and self._leaf_is_good:
            return None
        error = self._first_error or 0
        return _PROBLEMS.get(error, f"it does not verify (X.509 error {error})")


@dataclass(frozen=True, slots=True)
class FrontTLS:
    """A front's TLS settings, for any number of connections."""

    context: SSL.Context

    def accept(self, sock: socket.socket, *, exchange_s: float) -> TLSSocket:
        """Take over an accepted socket, before its handshake."""
        return TLSSocket(sock, self.context, exchange_s=exchange_s)


def front_tls(identity_pem: bytes, root_pem: bytes, *, client_certificates: ClientCertificates) -> FrontTLS:
    """Build a front's settings; `Misconfigured` if key, chain or root do not load.

    `identity_pem` has key and chain (leaf first) in one PEM, `root_pem` the trusted root.
    """
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    # In TLS 1.3 OP_NO_TICKET makes tickets stateful: OpenSSL still sends them (pyOpenSSL can't call
    # SSL_CTX_set_num_tickets), but they name sessions that, without a cache, nobody keeps. They carry the ACK
    # of the handshake, without which a client's first request waited 40 ms: its Nagle's algorithm, our
    # delayed ACK.
    context.set_options(SSL.OP_NO_TICKET)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    # An idle keep-alive connection gives its record buffers back.
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    context.set_verify(_VERIFY_MODES[client_certificates], _keep_verdict)
    # Names the protocol, so that nobody can redirect the connection to a server of another one that has the
    # same certificate (ALPACA, Brinkmann et al., USENIX Security 2021).
    context.set_alpn_select_callback(_choose_protocol)
    _trust(context, root_pem)
    _load_identity(context, identity_pem)
    return FrontTLS(context)


def _keep_verdict(connection: SSL.Connection, _certificate: X509, error: int, depth: int, ok: int) -> bool:
    # OpenSSL calls this for each error it finds, and for each certificate of the chain, the leaf last. True
    # lets the handshake go on.
    connection.get_app_data().record(error, depth, ok=bool(ok))
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
        # Without OpenSSL's text, which may quote the PEM.
        raise Misconfigured("key and certificate do not load") from exc


def _signing_key(identity_pem: bytes) -> _SigningKey:
    key = load_pem_private_key(identity_pem, password=None)
    if not isinstance(key, _SigningKey):
        raise Misconfigured("the key is neither EC, Ed25519 nor RSA")
    return key


class TLSSocket(HeldWrites):
    """The server's end of one TLS connection: those methods of a socket that gunicorn uses, and the peer.

    For one thread at a time, except `peer.shut`. Errors are OSErrors: BlockingIOError if a non-blocking call
    would wait.
    """

    def __init__(self, sock: socket.socket, context: SSL.Context, *, exchange_s: float) -> None:
        self.peer: TLSPeer | None = None
        """The client, after the handshake; None without a certificate."""
        # Always non-blocking below; `_wait` waits, as long as the exchange's deadline allows.
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
        """Begin an exchange, or stop waiting for anything."""
        self._deadline.begin(blocking=flag)

    def do_handshake(self) -> None:
        """Advance the handshake, unless it is complete; it sets `peer` when it completes."""
        if self._is_connected:
            return
        try:
            self._retry(self._tls.do_handshake)
        except TLSError as exc:
            if _NO_CERTIFICATE in str(exc):
                # No HTTP yet to answer in: the client gets the alert certificate_required, the log the
                # reason.
                _log.info("client-certificate-refused", extra={"reason": "missing", "source": self._source()})
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
        """Read up to `bufsize` bytes; none if the client has closed, with or without close_notify.

        A truncation attack gains nothing: HTTP's own lengths say whether a request is whole.
        """
        self.flush()
        try:
            return self._retry(self._tls.recv, bufsize)
        except _Ended:
            return b""

    def pending(self) -> int:
        """The number of bytes decrypted but not read; they no longer make the socket readable."""
        return self._tls.pending()

    def shutdown(self, how: int) -> None:
        """Send close_notify, then shut the socket down."""
        with contextlib.suppress(SSL.Error):
            self._tls.shutdown()
        self._sock.shutdown(how)

    def discard(self, nbytes: int) -> int:
        """Discard up to `nbytes` without decrypting them and return how many it were."""
        return len(self._sock.recv(nbytes))

    def close(self) -> None:
        """Close the socket."""
        # No SSL_shutdown from here on: it would write to the descriptor's number, which the next accepted
        # connection may have by then. `_retry` looks for the closed socket for the same reason.
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
        """Call `act` until it succeeds, waiting for the socket as long as the exchange's deadline allows.

        Turns OpenSSL's errors into OSErrors.
        """
        while True:
            if self._sock.fileno() < 0:
                raise ConnectionResetError(errno.ECONNRESET, "closed")
            try:
                return act(*args)
            # Either call may want either direction: TLS 1.3 updates keys in the middle of a stream (RFC 8446
            # section 4.6.3).
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
    """The client violated TLS; the message is OpenSSL's."""


class _Ended(ConnectionResetError):
    """The client closed the connection."""


def _reasons(error: SSL.Error) -> Iterator[str]:
    for each in error.args[0] if error.args else ():
        yield each[-1]
