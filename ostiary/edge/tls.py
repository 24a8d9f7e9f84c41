"""TLS with Python's ssl: clients, and servers that request no certificate.

Fronts, which do request one, use `ostiary.front.tls`.

Rules:
- TLS 1.3 only, no session tickets.
- A key never lies in a file. It reaches OpenSSL through a sealed memfd, which has no name and can't change
  while it is read.
- Only the root is trusted; leaf and issuing certificate are sent. Verification is X509_STRICT.

Not checked here: revocation, the mapping of names (`ostiary.identity`), and what a peer may do.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import ssl
from collections.abc import Iterator, Sequence
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from ostiary.errors import Misconfigured

# linux/memfd.h: sealed against ever being executable (Linux 6.3); F_SEAL_* come from fcntl.
_MFD_NOEXEC_SEAL: Final = 0x0008
_SEALS: Final = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


def build_identity_pem(key: CertificateIssuerPrivateKeyTypes, chain: Sequence[x509.Certificate]) -> bytes:
    """Return key (PKCS#8, in the clear: keep it in memory) and chain, leaf first, as one PEM."""
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return secret + b"".join(certificate.public_bytes(Encoding.PEM) for certificate in chain)


def server_context(identity_pem: bytes) -> ssl.SSLContext:
    """Return a server context with `identity_pem` (key and chain in one PEM)."""
    context = _context(ssl.PROTOCOL_TLS_SERVER)
    # A resumed session skips the handshake's verification, so that a revoked or expired peer would stay in.
    context.num_tickets = 0
    _load_identity(context, identity_pem)
    return context


def client_context(root_pem: bytes, identity_pem: bytes | None) -> ssl.SSLContext:
    """Return a client context that verifies the server's name under `root_pem`.

    It presents `identity_pem` (key and chain in one PEM) to a server that requests a certificate.
    """
    context = _context(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = True
    # Without it OpenSSL tolerates deviations from RFC 5280; ssl.create_default_context sets it from Python
    # 3.13.
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_STRICT
    try:
        context.load_verify_locations(cadata=root_pem.decode("ascii"))
    except (ssl.SSLError, UnicodeDecodeError) as exc:
        raise Misconfigured("the trusted root is not a PEM certificate") from exc
    if identity_pem is not None:
        _load_identity(context, identity_pem)
    return context


@contextlib.contextmanager
def sealed_memfd(content: bytes) -> Iterator[str]:
    """Yield a path under /proc/self/fd that holds `content` and can't change; it is gone after the block."""
    # ssl.load_cert_chain takes paths only (CPython issues 60691 and 129216 ask for more), and opens the file
    # twice, once for the key and once for the chain: a pipe would be empty the second time.
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        fd = os.memfd_create("ostiary-tls", flags | _MFD_NOEXEC_SEAL)
    except OSError:  # before Linux 6.3: EINVAL for a flag it does not know
        fd = os.memfd_create("ostiary-tls", flags)
    try:
        view = memoryview(content)
        # write(2) may write less than it was given.
        while view:
            view = view[os.write(fd, view) :]
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)


def _context(protocol: int) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # Names the protocol, so that nobody can redirect the connection to a server of another one that has the
    # same certificate (ALPACA, Brinkmann et al., USENIX Security 2021).
    context.set_alpn_protocols(["http/1.1"])
    return context


def _load_identity(context: ssl.SSLContext, identity_pem: bytes) -> None:
    with sealed_memfd(identity_pem) as path:
        try:
            context.load_cert_chain(path)
        except ssl.SSLError as exc:
            raise Misconfigured(f"key and certificate do not load: {exc.reason}") from exc
