"""The fronts' end of TLS, with pyOpenSSL, which no other file uses.

A client with a bad certificate learns the reason in HTTP (docs/adr/0016).

OpenSSL verifies a client's chain during the handshake, and would end it with an alert that many clients never
show. Here the handshake completes whatever the verdict; the verdict stays with the connection, and every
request on it is refused with a problem document (`ostiary.front.peer`). Python's ssl module offers no
place for such a verdict.

Rules:
- A certificate identifies a peer only if OpenSSL found its leaf good and reported no error at all (RFC 5280
  section 6, X509_STRICT). That the client holds the key is checked by TLS itself (RFC 8446 section 4.4.3),
  and a failure still ends the handshake.
- TLS 1.3, and where a front says so 1.2 with ECDHE, an AEAD cipher and the extended master secret only. No
  resumption: a resumed session skips the check of the client's certificate. No renegotiation.
- OpenSSL works on memory: whoever owns the socket (`ostiary.front.connection`) waits, and bounds the waiting.
- The key reaches OpenSSL from memory.

Not checked here: revocation, validity after the handshake, names (`ostiary.identity`), what a peer may do.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from OpenSSL import SSL
from OpenSSL.crypto import X509, X509StoreFlags

from ostiary.errors import Misconfigured

_SigningKey: TypeAlias = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey
ClientCertificates = Literal["required", "optional"]
Oldest = Literal["TLS 1.2", "TLS 1.3"]
"""The oldest version of TLS that a front speaks."""

RECORD_BYTES: Final = 16 << 10
"""The most that one TLS record carries (RFC 8446 section 5.1)."""
_READ_BYTES: Final = 32 << 10
_SLICE_BYTES: Final = 16 << 10
# Of one request's TLS beyond its plaintext: thousands of small records, but no flood of key updates.
_MAX_OVERHEAD_BYTES: Final = 128 << 10
_HTTP: Final = b"http/1.1"
# Of TLS 1.2, what 1.3 left in: forward secrecy and an AEAD cipher (RFC 9325 section 4.2).
_CIPHERS_1_2: Final = b"ECDHE+AESGCM:ECDHE+CHACHA20"
_OLDEST: Final[dict[Oldest, int]] = {"TLS 1.2": SSL.TLS1_2_VERSION, "TLS 1.3": SSL.TLS1_3_VERSION}
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

    def accept(self) -> TLSConnection:
        """Begin a connection, before its handshake."""
        return TLSConnection(self.context)


def front_tls(
    identity_pem: bytes,
    root_pem: bytes,
    *,
    client_certificates: ClientCertificates,
    oldest: Oldest = "TLS 1.3",
    staple: Callable[[], bytes] | None = None,
) -> FrontTLS:
    """Build a front's settings; `Misconfigured` if key, chain or root do not load.

    `identity_pem` has key and chain (leaf first) in one PEM, `root_pem` the trusted root. `staple` returns
    the OCSP response (DER) for the leaf that clients who ask for it get (RFC 6066 section 8), empty for none.
    """
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(_OLDEST[oldest])
    context.set_cipher_list(_CIPHERS_1_2)
    # In TLS 1.3 OP_NO_TICKET makes tickets stateful: OpenSSL still sends them (pyOpenSSL can't call
    # SSL_CTX_set_num_tickets), but they name sessions that, without a cache, nobody keeps. They carry the ACK
    # of the handshake, without which a client's first request waited 40 ms: its Nagle's algorithm, our
    # delayed ACK.
    context.set_options(SSL.OP_NO_TICKET | SSL.OP_NO_RENEGOTIATION)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    # An idle keep-alive connection gives its record buffers back.
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    context.set_verify(_VERIFY_MODES[client_certificates], _keep_verdict)
    # Names the protocol, so that nobody can redirect the connection to a server of another one that has the
    # same certificate (ALPACA, Brinkmann et al., USENIX Security 2021).
    context.set_alpn_select_callback(_choose_protocol)
    if staple is not None:
        answer = staple
        context.set_ocsp_server_callback(lambda _connection, _data: answer())
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


class TLSConnection:
    """The server's end of one TLS connection over memory: ciphertext in, plaintext out, and the other way.

    It owns no socket. `receive` may make ciphertext of its own (the handshake, key updates, alerts): send
    what `to_send` returns after every call.
    """

    def __init__(self, context: SSL.Context) -> None:
        self._verdict = _Verdict()
        self._tls = SSL.Connection(context, None)
        self._tls.set_app_data(self._verdict)
        self._tls.set_accept_state()
        self.is_established = False
        self._overhead_bytes = 0

    def begin_request(self) -> None:
        """Let the client say `_MAX_OVERHEAD_BYTES` of TLS once more."""
        self._overhead_bytes = 0

    def receive(self, ciphertext: bytes) -> bytes:
        """Take what the client sent; return the plaintext in it.

        Raises `TLSError` where the client violates TLS, or has it work for nothing (key updates cost more
        than data), and `TLSEnded` where it ended the connection by close_notify, with the plaintext before
        it.
        """
        parts: list[bytes] = []
        # In slices, so that a flood is seen before all of it is worked on.
        for start in range(0, len(ciphertext), _SLICE_BYTES):
            piece = ciphertext[start : start + _SLICE_BYTES]
            was_established = self.is_established
            try:
                parts.append(self._receive(piece))
            except TLSEnded as ended:
                raise TLSEnded(b"".join([*parts, ended.plaintext])) from ended
            if was_established:
                self._overhead_bytes += len(piece) - len(parts[-1])
            if self._overhead_bytes > _MAX_OVERHEAD_BYTES:
                raise TLSError("more records than data")
        return b"".join(parts)

    def _receive(self, ciphertext: bytes) -> bytes:
        self._tls.bio_write(ciphertext)
        try:
            if not self.is_established:
                self._tls.do_handshake()
                self._check_established()
                self.is_established = True
        except SSL.WantReadError:
            return b""
        except SSL.Error as exc:
            raise _tls_error(exc) from exc
        return self._decrypt()

    def client_certificate(self) -> tuple[bytes, str | None] | None:
        """Return the client's leaf (DER) and why it did not verify (None: it did); None if it showed none."""
        certificate = self._tls.get_peer_certificate(as_cryptography=True)
        if certificate is None:
            return None
        return certificate.public_bytes(Encoding.DER), self._verdict.problem()

    def encrypt(self, plaintext: bytes | memoryview) -> bytes:
        """Return `plaintext` (at most RECORD_BYTES) as ciphertext."""
        try:
            self._tls.send(plaintext)
        except SSL.Error as exc:
            raise _tls_error(exc) from exc
        return self.to_send()

    def close(self) -> bytes:
        """Return the ciphertext of close_notify."""
        with contextlib.suppress(SSL.Error):
            self._tls.shutdown()
        return self.to_send()

    def to_send(self) -> bytes:
        """Return ciphertext that is to be sent."""
        parts = []
        with contextlib.suppress(SSL.WantReadError):
            while True:
                parts.append(self._tls.bio_read(_READ_BYTES))
        return b"".join(parts)

    def _decrypt(self) -> bytes:
        parts = []
        try:
            while True:
                parts.append(self._tls.recv(_READ_BYTES))
        except SSL.WantReadError:
            return b"".join(parts)
        except SSL.ZeroReturnError as exc:
            raise TLSEnded(b"".join(parts)) from exc
        except SSL.Error as exc:
            raise _tls_error(exc) from exc

    def _check_established(self) -> None:
        """Demand the extended master secret of a TLS 1.2 client (RFC 7627 section 5.3); TLS 1.3 has it built
        in. Without it two sessions can be made to share keys (triple handshake, CVE-2014-1295).
        """
        if self._tls.get_protocol_version_name() == "TLSv1.2" and not _has_extended_master_secret(self._tls):
            raise TLSError("the client lacks the extended master secret extension")


def _has_extended_master_secret(connection: SSL.Connection) -> bool:
    # pyOpenSSL binds SSL_get_extms_support(3) and has no method for it.
    answer: int = SSL._lib.SSL_get_extms_support(connection._ssl)  # type: ignore[attr-defined] # noqa: SLF001
    return answer == 1


class TLSError(Exception):
    """The client violated TLS; the message is OpenSSL's."""

    @property
    def is_for_no_certificate(self) -> bool:
        """Whether the client showed no certificate where one is required."""
        return _NO_CERTIFICATE in str(self)


class TLSEnded(Exception):
    """The client ended the connection by close_notify; `plaintext` is what came before it."""

    def __init__(self, plaintext: bytes) -> None:
        super().__init__("closed by the client")
        self.plaintext = plaintext


def _tls_error(error: SSL.Error) -> TLSError:
    reasons = [each[-1] for each in error.args[0]] if error.args and isinstance(error.args[0], list) else []
    return TLSError("; ".join(reasons) or type(error).__name__)
