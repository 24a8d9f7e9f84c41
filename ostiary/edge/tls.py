"""TLS as every part of Ostiary speaks it: 1.3 only, both sides named, no resumption, keys that never lie in a file.

Rules:
- No session tickets: a resumed session skips the check of the client's certificate, so a revoked or expired one
  would go on (`num_tickets = 0`). Receivers also check serial and notAfter on every request.
- Without tickets nothing follows the handshake, and the client's delayed ACK would meet Nagle's algorithm: 40 ms on
  the first request. TCP_QUICKACK right after the handshake takes that away; our own clients set TCP_NODELAY.
- A key reaches OpenSSL through a sealed memfd: the file never has a name and can't be changed while it is read.
- Reads and writes of one exchange share a deadline: a client that sends or takes one byte at a time is cut off.
- The root is trusted, leaf and issuing certificate are sent; verification is X509_STRICT.
What is *not* checked here: revocation, the mapping of names (`ostiary.identity`), and what a peer may do.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import ssl
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Final, Literal, Self, TypeVar, cast

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from ostiary.errors import Misconfigured

T = TypeVar("T")

# linux/memfd.h: sealed against ever being executable (Linux 6.3); F_SEAL_* come from fcntl.
_MFD_NOEXEC_SEAL: Final = 0x0008
_SEALS: Final = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
_VERIFY_MODES: Final = {
    "required": ssl.CERT_REQUIRED,
    "optional": ssl.CERT_OPTIONAL,
    "none": ssl.CERT_NONE,
}
ClientCertificates = Literal["required", "optional", "none"]


def identity_pem(key: CertificateIssuerPrivateKeyTypes, chain: Sequence[x509.Certificate]) -> bytes:
    """Key (PKCS#8, in the clear: keep it in memory) and chain, leaf first, as one PEM."""
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return secret + b"".join(certificate.public_bytes(Encoding.PEM) for certificate in chain)


def server_context(
    identity: bytes, root: bytes, *, client_certificates: ClientCertificates
) -> ssl.SSLContext:
    """A context for `ostiary.edge.front`; `identity` is key and chain in one PEM, `root` the trusted PEM."""
    context = _context(ssl.PROTOCOL_TLS_SERVER, root)
    context.sslsocket_class = TLSSocket
    context.num_tickets = 0
    context.verify_mode = _VERIFY_MODES[client_certificates]
    _load_identity(context, identity)
    return context


def client_context(root: bytes, identity: bytes | None) -> ssl.SSLContext:
    """A context that verifies the server's name against `root` and shows `identity` (key and chain) if there is one."""
    context = _context(ssl.PROTOCOL_TLS_CLIENT, root)
    context.check_hostname = True
    if identity is not None:
        _load_identity(context, identity)
    return context


@contextlib.contextmanager
def sealed_memfd(content: bytes) -> Iterator[str]:
    """A path under /proc/self/fd that holds `content` and can't change; gone when the block ends."""
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        fd = os.memfd_create("ostiary-tls", flags | _MFD_NOEXEC_SEAL)
    except OSError:  # before Linux 6.3
        fd = os.memfd_create("ostiary-tls", flags)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(fd, view) :]
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)


def _context(protocol: int, root: bytes) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_STRICT
    # Says what is spoken, so that the connection can't be taken for another protocol's (ALPACA, 2021).
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_verify_locations(cadata=root.decode("ascii"))
    except (ssl.SSLError, UnicodeDecodeError) as exc:
        raise Misconfigured("the trusted root is not a PEM certificate") from exc
    return context


def _load_identity(context: ssl.SSLContext, identity: bytes) -> None:
    with sealed_memfd(identity) as path:
        try:
            context.load_cert_chain(path)
        except ssl.SSLError as exc:
            raise Misconfigured(f"key and certificate do not load: {exc.reason}") from exc


# --- sockets with a deadline ---


class GuardedSocket(socket.socket):
    """A socket whose blocking reads, and whose blocking writes, end `exchange_s` after `setblocking(True)`.

    The write deadline starts at the first write, so that an answer that took its time (a long poll) is still sent.
    """

    exchange_s: ClassVar[float] = 15.0
    _deadline: float | None = None
    _writing = False

    @classmethod
    def adopt(cls, sock: socket.socket) -> Self:
        """Take over an accepted socket, non-blocking."""
        adopted = cls(fileno=sock.detach())
        adopted.setblocking(False)
        return adopted

    def setblocking(self, flag: bool) -> None:  # noqa: FBT001 - socket's signature
        self._writing = False
        self._deadline = time.monotonic() + self.exchange_s if flag else None
        super().setblocking(flag)

    def recv(self, bufsize: int = 8192, flags: int = 0) -> bytes:
        self._bound()
        return super().recv(bufsize, flags)

    def send(self, data: Any, flags: int = 0) -> int:
        self._start_writing()
        self._bound()
        return super().send(data, flags)

    def sendall(self, data: Any, flags: int = 0) -> None:
        self._start_writing()
        self._bound()
        super().sendall(data, flags)

    def _start_writing(self) -> None:
        if not self._writing and self._deadline is not None:
            self._writing = True
            self._deadline = time.monotonic() + self.exchange_s

    def _bound(self) -> None:
        if self._deadline is None:
            return
        left_s = self._deadline - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("the exchange took too long")
        self.settimeout(left_s)


class TLSSocket(GuardedSocket, ssl.SSLSocket):
    """The server's end of a TLS connection: the same deadlines (`sendall` sends by `send`, so that a slow reader meets them between
    records), and what is known of its peer.
    """

    peer_der: bytes | None = None
    peer_serial_number: int | None = None
    peer_values: dict[object, object] | None = None


def acknowledge_at_once(sock: socket.socket) -> None:
    """Send the ACK of the handshake now (TCP_QUICKACK is not sticky: call it right after)."""
    if sock.family in {socket.AF_INET, socket.AF_INET6}:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


# --- the peer of a request, and cutting it off ---

# Open connections whose peer showed a certificate; one registry per worker process.
_open: weakref.WeakSet[TLSSocket] = weakref.WeakSet()
_open_lock = threading.Lock()


def peer_certificate(environ: Mapping[str, object]) -> bytes | None:
    """The client's certificate (DER) of a WSGI request, None without one; read once per connection.

    TLS verified chain and key at the handshake; a connection may outlive both, so check serial and notAfter again.
    """
    sock = environ.get("gunicorn.socket")
    if not isinstance(sock, TLSSocket):
        return None
    if sock.peer_der is None:
        der = sock.getpeercert(True)
        if not der:
            return None
        sock.peer_serial_number = x509.load_der_x509_certificate(der).serial_number
        sock.peer_der = der
        with _open_lock:
            _open.add(sock)
    return sock.peer_der


def peer_value(environ: Mapping[str, object], build: Callable[[bytes], T]) -> T | None:
    """`build(certificate DER)`, called once per connection and kept with it; None without a certificate.

    Give a function of the module's level (it is the key), such as one that parses the certificate's identity.
    """
    der = peer_certificate(environ)
    if der is None:
        return None
    sock = cast("TLSSocket", environ["gunicorn.socket"])
    if sock.peer_values is None:
        sock.peer_values = {}
    if build not in sock.peer_values:
        sock.peer_values[build] = build(der)
    return cast("T", sock.peer_values[build])


def cut_off(serial_numbers: Iterable[int]) -> int:
    """Shut every open connection of these certificates in this process, from any thread; how many there were."""
    revoked = frozenset(serial_numbers)
    with _open_lock:
        doomed = [sock for sock in _open if sock.peer_serial_number in revoked]
    for sock in doomed:
        with contextlib.suppress(OSError):
            # The base class's: SSLSocket.shutdown would pull the TLS state from under the thread that reads.
            socket.socket.shutdown(sock, socket.SHUT_RDWR)
    return len(doomed)
