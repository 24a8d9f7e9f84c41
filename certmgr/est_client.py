"""The manager's client of the certificate authority: EST to enroll, Ostiary's own endpoints for the rest.

Rules:
- The server is recognised by its certificate: issued under the pinned root for the sub-system
  `certificate-authority` of our application. The bootstrap document's address only says where to find it.
- Every call is one exchange with a deadline; the caller decides about retries (`certmgr.lifecycle`).
- Every certificate is checked (`certmgr.issued`) before it is returned.

Standard: RFC 7030 sections 4.1.3, 4.2 (base64 of DER, certs-only PKCS#7), RFC 8951.
"""

from __future__ import annotations

import base64
import binascii
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization.pkcs7 import load_der_pkcs7_certificates

from certmgr.issued import Issued, Wanted, check_issued
from ostiary.address import Address
from ostiary.certificate import SerialHex
from ostiary.edge.clock import Clock
from ostiary.edge.http_client import Connector, HTTPClient
from ostiary.edge.tls import client_context
from ostiary.errors import BadInput, Busy, Forbidden, InternalFault
from ostiary.identity import Application, identity_of
from ostiary.subsystems import CERTIFICATE_AUTHORITY
from ostiary.token import Token

TIMEOUT_S: Final = 10.0
_EST: Final = "/.well-known/est/"
_CSR_TYPE: Final = "application/pkcs10"
_MAX_ANSWER_BYTES: Final = 1 << 20
_KEPT_CONNECTIONS: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class SpawnRequest:
    """A manager's request on behalf of a spawner, whose certificate is `spawner_serial`."""

    wanted: Wanted
    csr_der: bytes
    spawner_serial: SerialHex


class _Spawned(msgspec.Struct, frozen=True, kw_only=True):
    certificate: str
    chain: str


class _Status(msgspec.Struct, frozen=True, kw_only=True):
    status: str


class _Revoked(msgspec.Struct, frozen=True, kw_only=True):
    serial: str = msgspec.field(name="serial_number")


class _Feed(msgspec.Struct, frozen=True, kw_only=True):
    next: int
    revoked: list[_Revoked]


class ESTClient:
    """The calls to the authority. Thread-safe: it keeps the manager's own connections, and no others.

    An agent's certificate makes a few calls in its lifetime; a kept connection would only hold a descriptor.
    """

    def __init__(
        self,
        *,
        address: Address,
        application: Application,
        root: x509.Certificate,
        root_pem: bytes,
        clock: Clock,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._address = address
        self._application = application
        self._root = root
        self._root_pem = root_pem
        self._clock = clock
        self._timeout_s = timeout_s
        self._lock = threading.Lock()  # guards `_kept`; a connection in use belongs to its thread alone
        self._kept: dict[bytes, list[HTTPClient]] = {}
        self._authorities: list[x509.Certificate] = []

    # --- enrolling ---

    def redeem(self, token: Token, csr_der: bytes, wanted: Wanted) -> Issued:
        """Spend an enrollment token (simpleenroll); repeating it with the same request is safe."""
        # RFC 7030 section 3.2.3: HTTP Basic. The user name is the token's public part.
        secret = base64.b64encode(f"{token.id}:{token.reveal()}".encode()).decode()
        with self._connection(None) as client:
            return self._enroll(client, "simpleenroll", csr_der, wanted, {"Authorization": f"Basic {secret}"})

    def renew(self, identity_pem: bytes, csr_der: bytes, wanted: Wanted) -> Issued:
        """Get the next generation (simplereenroll), authenticated by the current one's key."""
        with self._connection(identity_pem) as client:
            return self._enroll(client, "simplereenroll", csr_der, wanted, {})

    def spawn(self, manager_pem: bytes, request: SpawnRequest) -> Issued:
        """Get an agent's first certificate, as its node's manager; repeating the same request is safe."""
        wanted = request.wanted
        body = {
            "agent": wanted.names.agent,
            "subsystem": wanted.names.subsystem,
            "capabilities": sorted(wanted.capabilities or ()),
            "endpoints": list(wanted.endpoints or ()),
            "spawner": request.spawner_serial,
            "csr": base64.b64encode(request.csr_der).decode(),
        }
        with self._connection(manager_pem, keep=True) as client:
            answer = client.call("POST", "/v1/agents", body, type_=_Spawned)
        try:
            found = x509.load_pem_x509_certificates(f"{answer.certificate}\n{answer.chain}".encode())
        except ValueError as exc:
            raise InternalFault("malformed certificates in the authority's response") from exc
        return check_issued(found, root=self._root, wanted=wanted, now=self._clock.now())

    def _enroll(
        self, client: HTTPClient, verb: str, csr_der: bytes, wanted: Wanted, headers: dict[str, str]
    ) -> Issued:
        response = client.request(
            "POST", _EST + verb, body=base64.encodebytes(csr_der), content_type=_CSR_TYPE, headers=headers
        )
        if response.status != 200:  # 202 Accepted: RFC 7030 section 4.2.3, retry later
            raise Busy("the authority has not decided yet; retry")
        found = parse_certificates(response.body)
        if len(found) > 1:
            return check_issued(found, root=self._root, wanted=wanted, now=self._clock.now())
        # RFC 7030 section 4.2.3 has a server return the leaf alone. The rest of the chain comes from cacerts
        # and is kept, as a CA's certificates change once in years; a chain that fails with the kept ones is
        # tried once more with fresh ones.
        try:
            return check_issued(
                [*found, *self._authorities], root=self._root, wanted=wanted, now=self._clock.now()
            )
        except InternalFault:
            self._authorities = parse_certificates(client.request("GET", _EST + "cacerts").body)
        return check_issued(
            [*found, *self._authorities], root=self._root, wanted=wanted, now=self._clock.now()
        )

    # --- the state of a certificate ---

    def prove(self, identity_pem: bytes, serial: SerialHex) -> str:
        """Ask the authority to dial back, with the pending certificate; return the status after it."""
        with self._connection(identity_pem) as client:
            return client.call("POST", f"/v1/certificates/{serial}/prove", type_=_Status).status

    def status(self, identity_pem: bytes) -> str:
        """Return the status of a certificate; for a renewed one this is the first use, which activates it."""
        with self._connection(identity_pem) as client:
            return client.call("GET", "/v1/whoami", type_=_Status).status

    def retire(self, manager_pem: bytes, serial: SerialHex) -> None:
        """Revoke a certificate of this node whose program has ended."""
        with self._connection(manager_pem, keep=True) as client:
            reason = {"reason": "cessationOfOperation"}
            path = f"/v1/certificates/{serial}/revoke"
            client.request("POST", path, body=msgspec.json.encode(reason), content_type="application/json")

    # --- what is public ---

    def revocations(self, identity_pem: bytes, since: int, *, wait_s: int) -> tuple[int, list[SerialHex]]:
        """Return the feed's next position and the serials revoked since; waits up to `wait_s` for one."""
        with self._connection(identity_pem, timeout_s=wait_s + self._timeout_s) as client:
            feed = client.call("GET", f"/v1/revocations?since={since}&wait={wait_s}", type_=_Feed)
        return feed.next, [SerialHex(each.serial) for each in feed.revoked]

    def ledger(self, identity_pem: bytes, path: str) -> bytes:
        """Return a checkpoint (`checkpoint`) or a tile (`tile/0/000.p/7`) of the authority's ledger."""
        with self._connection(identity_pem) as client:
            return client.request("GET", f"/v1/ledger/{path}").body

    # --- connections ---

    def close(self) -> None:
        """Close the kept connections; the client stays usable."""
        with self._lock:
            for clients in self._kept.values():
                for client in clients:
                    client.close()
            self._kept.clear()

    @contextmanager
    def _connection(
        self, identity_pem: bytes | None, *, keep: bool = False, timeout_s: float | None = None
    ) -> Iterator[HTTPClient]:
        client = self._kept_connection(identity_pem) if keep and identity_pem else None
        if client is None:
            connect = self._connector(identity_pem, timeout_s or self._timeout_s)
            client = HTTPClient(connect, host=str(self._address), limit_bytes=_MAX_ANSWER_BYTES)
        try:
            yield client
        except BaseException:
            client.close()  # an answer may still be under way on it
            raise
        if keep and identity_pem:
            self._keep(identity_pem, client)
        else:
            client.close()

    def _kept_connection(self, identity_pem: bytes) -> HTTPClient | None:
        with self._lock:
            kept = self._kept.get(identity_pem)
            return kept.pop() if kept else None

    def _keep(self, identity_pem: bytes, client: HTTPClient) -> None:
        with self._lock:
            # The manager has been renewed: connections under its previous certificate are of no more use.
            for old in [each for each in self._kept if each != identity_pem]:
                for each in self._kept.pop(old):
                    each.close()
            kept = self._kept.setdefault(identity_pem, [])
            if len(kept) < _KEPT_CONNECTIONS:
                kept.append(client)
            else:
                client.close()

    def _connector(self, identity_pem: bytes | None, timeout_s: float) -> Connector:
        def context() -> ssl.SSLContext:
            made = client_context(self._root_pem, identity_pem)
            made.check_hostname = False  # `_check_authority` checks the identity instead of an address
            return made

        return authority_connector(self._address, self._application, context, timeout_s=timeout_s)


def authority_connector(
    address: Address, application: Application, context: Callable[[], ssl.SSLContext], *, timeout_s: float
) -> Connector:
    """Connect to `address` and verify that the server is our application's certificate authority."""

    def connect() -> socket.socket:
        sock = socket.create_connection((address.host, address.port), timeout=timeout_s)
        try:
            # Head and body leave in two writes; under Nagle's algorithm (RFC 896) the second one would wait
            # for the server's delayed acknowledgement, 40 ms on Linux.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            wrapped = context().wrap_socket(sock)
        except BaseException:
            sock.close()
            raise
        try:
            _check_authority(wrapped.getpeercert(True), application)
        except BaseException:
            wrapped.close()
            raise
        return wrapped

    return connect


def _check_authority(certificate_der: bytes | None, application: Application) -> None:
    try:
        identity = identity_of(x509.load_der_x509_certificate(certificate_der or b""))
    except (BadInput, ValueError) as exc:
        raise Forbidden("server certificate carries no Ostiary identity", rule="server-certificate") from exc
    if (identity.application, identity.subsystem) != (application, CERTIFICATE_AUTHORITY):
        raise Forbidden(
            f"server certificate belongs to '{identity.subsystem}' of '{identity.application}', "
            f"expected '{CERTIFICATE_AUTHORITY}' of '{application}'",
            rule="server-certificate",
        )


def parse_certificates(body: bytes) -> list[x509.Certificate]:
    """Read a certs-only PKCS#7 (base64 of DER, RFC 7030 section 4.1.3); InternalFault for anything else."""
    # RFC 8951 section 3.1: receivers tolerate white space within the base64.
    try:
        return load_der_pkcs7_certificates(base64.b64decode(b"".join(body.split()), validate=True))
    except (ValueError, binascii.Error) as exc:
        raise InternalFault("the authority's response is not a certs-only PKCS#7") from exc
