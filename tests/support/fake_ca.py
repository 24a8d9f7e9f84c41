"""A certificate authority for the manager's tests: the real one's wire over real TLS, with simple rules.

Everything lives in the memory of the test's process. Tests set `open_gate` (cleared: requests wait), `away`
(connections are closed), `lifetime`, `half_spent` (certificates are due for renewal as soon as they are
issued) and `renews` (False: whoever wants to renew is asked to come again).
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import socket
import ssl
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.hazmat.primitives.serialization.pkcs7 import serialize_certificates

from ca.certificates.profile import build_tbs, plan_leaf
from ca.certificates.shards import ShardNumber
from ostiary.capabilities import Capabilities, parse_capabilities
from ostiary.certificate import accept_public_key, serial_hex, spki_der
from ostiary.edge.tls import build_identity_pem, server_context
from ostiary.identity import (
    Identity,
    NodeName,
    identity_of,
    parse_agent_id,
    parse_endpoint,
    parse_node,
    parse_subsystem,
)
from ostiary.ledger.checkpoint import Checkpoint, KeyType, sign, verifier_key
from ostiary.ledger.memory import MemoryLog
from ostiary.ledger.tiles import Tile, parse_path
from ostiary.subsystems import CERTIFICATE_AUTHORITY, CERTIFICATE_MANAGER, NODE_CONTROLLER
from ostiary.token import Token, mint
from tests.support.ca_authority import AuthorityForTests
from tests.support.certificates import IDENTITY
from tests.support.fake_ca_server import Problem, Server
from tests.support.waiting import PATIENCE_S

FEED_S: Final = 2.0  # of a poll of the feed
ORIGIN: Final = "shop.example/ca"
MANAGER_CAPABILITIES: Final = parse_capabilities(["enroll:node"])
CONTROLLER_CAPABILITIES: Final = parse_capabilities(["spawn:component-harness", "credential:use"])


def agent_id() -> str:
    """Return a new agent's name, unique on this machine."""
    return str(uuid.uuid4())


@dataclass(kw_only=True)
class Row:
    identity: Identity
    certificate: x509.Certificate
    status: str
    bootstrap: bool
    granted: Capabilities


@dataclass(kw_only=True)
class TokenRow:
    token: Token
    identity: Identity
    spki: bytes = b""
    certificate: x509.Certificate | None = None


@dataclass(kw_only=True)
class FakeCA:
    """The authority's rules and rows; `start` serves them."""

    authority: AuthorityForTests = field(default_factory=lambda: AuthorityForTests(now=datetime.now(UTC)))
    lifetime: timedelta = timedelta(hours=2)
    dial: tuple[str, int] | None = None
    rows: dict[str, Row] = field(default_factory=dict)
    tokens: dict[str, TokenRow] = field(default_factory=dict)
    revoked: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    log: MemoryLog = field(default_factory=lambda: MemoryLog([b"first"]))
    log_key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    open_gate: threading.Event = field(default_factory=threading.Event)
    away: bool = False
    half_spent: bool = False
    renews: bool = True
    address: tuple[str, int] = ("", 0)
    _serials: Iterator[int] = field(default_factory=lambda: itertools.count(0x1000))
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def __post_init__(self) -> None:
        self.open_gate.set()

    # --- what tests ask of it ---

    @property
    def root_pem(self) -> str:
        return self.authority.root.public_bytes(Encoding.PEM).decode()

    def checkpoint(self) -> bytes:
        return sign(Checkpoint.of(ORIGIN, self.log.frontier), ORIGIN, self.log_key)

    def bootstrap(self, node: NodeName = IDENTITY.node) -> dict[str, Any]:
        """A bootstrap document for a node, with fresh tokens."""
        tokens = {}
        for subsystem, capabilities in (
            (CERTIFICATE_MANAGER, MANAGER_CAPABILITIES),
            (NODE_CONTROLLER, CONTROLLER_CAPABILITIES),
        ):
            agent = parse_agent_id(agent_id())
            identity = replace(
                IDENTITY, subsystem=subsystem, agent=agent, endpoints=(), capabilities=capabilities, node=node
            )
            tokens[subsystem] = {"agent": agent, "token": self.mint(identity).reveal()}
        return {
            "version": 1,
            "application": "shop.example",
            "node": node,
            "ca": {
                "url": f"https://{self.address[0]}:{self.address[1]}",
                "status_url": "http://127.0.0.1:8081/",
            },
            "credentials": None,
            "root": self.root_pem,
            "ledgers": [
                {
                    "origin": ORIGIN,
                    "vkey": str(verifier_key(ORIGIN, self.log_key, KeyType.LOG)),
                    "checkpoint": self.checkpoint().decode(),
                }
            ],
            "tokens": tokens,
        }

    def mint(self, identity: Identity) -> Token:
        token = mint(os.urandom(42))
        self.tokens[token.id] = TokenRow(token=token, identity=identity)
        return token

    def revoke(self, serial: str) -> None:
        with self._changed:
            self.rows[serial].status = "revoked"
            self.revoked.append(serial)
            self._changed.notify_all()

    def of_agent(self, agent: str) -> list[Row]:
        return [row for row in self.rows.values() if row.identity.agent == agent]

    def server_identity(self, subsystem: str = CERTIFICATE_AUTHORITY) -> bytes:
        key = ec.generate_private_key(ec.SECP256R1())
        identity = replace(
            IDENTITY,
            subsystem=parse_subsystem(subsystem),
            node=parse_node("ca1.nodes.shop.example"),
            endpoints=(),
            capabilities=frozenset(),
            node_name_in_san=True,
        )
        leaf = self.issue(identity, key.public_key(), pending=False)
        return build_identity_pem(key, [leaf, self.authority.issuing])

    def issue(self, identity: Identity, key: Any, *, pending: bool) -> x509.Certificate:
        plan = plan_leaf(
            self.authority.profile,
            identity,
            spki_der=spki_der(accept_public_key(key)),
            serial_number=next(self._serials),
            now=datetime.now(UTC),
            lifetime=self.lifetime,
            shard=ShardNumber(1),
            pending=pending,
        )
        if self.half_spent:
            plan = replace(plan, not_before=plan.not_before - 9 * self.lifetime)
        return self.authority.sign(build_tbs(self.authority.profile, plan))

    def start(self, *, subsystem: str = CERTIFICATE_AUTHORITY) -> None:
        """Serve on a port of loopback until the test's process ends or `stop`."""
        context = server_context(self.server_identity(subsystem))
        context.load_verify_locations(cadata=self.root_pem)
        context.verify_mode = ssl.CERT_OPTIONAL
        self.server = Server(self, context, self.address[1])
        self.address = ("127.0.0.1", self.server.server_address[1])
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        self.open_gate.set()
        self.server.shutdown()
        self.server.server_close()

    # --- the endpoints ---

    def answer(
        self, method: str, path: str, peer: x509.Certificate | None, body: bytes, auth: str
    ) -> tuple[int, str, bytes]:
        self.requests.append(f"{method} {path.partition('?')[0]}")
        self.open_gate.wait(PATIENCE_S)
        with self._changed:
            if path.startswith("/.well-known/est/"):
                return self._est(path.rpartition("/")[2], peer, body, auth)
            caller = self._caller(peer)
            if path.startswith("/v1/ledger/"):
                return 200, "application/octet-stream", self._ledger(path.removeprefix("/v1/ledger/"))
            return 200, "application/json", json.dumps(self._v1(path, caller, body)).encode()

    def _caller(self, peer: x509.Certificate | None) -> Row:
        row = self.rows.get(serial_hex(peer.serial_number)) if peer else None
        if row is None:
            raise Problem(401, "unauthenticated", "client certificate: missing")
        if row.status == "revoked":
            raise Problem(403, "forbidden", "client certificate: is revoked", "certificate-revoked")
        if row.status == "pending" and not row.bootstrap:
            for each in self.of_agent(row.identity.agent):
                if each.status == "active":
                    each.status = "superseded"
            row.status = "active"
        return row

    def _est(
        self, verb: str, peer: x509.Certificate | None, body: bytes, auth: str
    ) -> tuple[int, str, bytes]:
        if verb == "cacerts":
            return self._certificates([self.authority.issuing, self.authority.root])
        request = x509.load_der_x509_csr(base64.b64decode(body))
        if verb == "simpleenroll":
            return self._certificates([self._redeem(request, auth)])
        if not self.renews:
            raise Problem(503, "busy", "come again")
        caller = self._caller(peer)
        if caller.status != "active":
            raise Problem(403, "forbidden", "not active", "certificate-superseded")
        identity = replace(caller.identity, capabilities=caller.granted)
        certificate = self._add(identity, request, status="pending", bootstrap=False)
        return self._certificates([certificate])

    def _redeem(self, request: x509.CertificateSigningRequest, auth: str) -> x509.Certificate:
        user, _, text = base64.b64decode(auth.removeprefix("Basic ")).decode().partition(":")
        row = self.tokens.get(user)
        if row is None or row.token.reveal() != text:
            raise Problem(401, "unauthenticated", "authorization: this CA does not know the token")
        spki = spki_der(accept_public_key(request.public_key()))
        if row.certificate is None:
            row.spki = spki
            row.certificate = self._add(row.identity, request, status="pending", bootstrap=True)
        elif row.spki != spki:
            raise Problem(403, "forbidden", "another key for a spent token", "token-spent")
        return row.certificate

    def _add(
        self, identity: Identity, request: x509.CertificateSigningRequest, *, status: str, bootstrap: bool
    ) -> x509.Certificate:
        certificate = self.issue(identity, request.public_key(), pending=bootstrap)
        self.rows[serial_hex(certificate.serial_number)] = Row(
            identity=identity_of(certificate),
            certificate=certificate,
            status=status,
            bootstrap=bootstrap,
            granted=identity.capabilities,
        )
        return certificate

    @staticmethod
    def _certificates(found: list[x509.Certificate]) -> tuple[int, str, bytes]:
        body = base64.encodebytes(serialize_certificates(found, Encoding.DER))
        return 200, "application/pkcs7-mime; smime-type=certs-only", body

    def _v1(self, path: str, caller: Row, body: bytes) -> dict[str, Any]:
        if path == "/v1/whoami":
            return {"status": caller.status, "agent": caller.identity.agent}
        if path == "/v1/agents":
            return self._spawn(json.loads(body), caller)
        if path.startswith("/v1/revocations"):
            return self._feed(int(path.partition("since=")[2].partition("&")[0]))
        serial, verb = path.removeprefix("/v1/certificates/").split("/")
        if verb == "prove":
            self._dial_back(caller)
            caller.status = "active"
        elif verb == "revoke":
            self.revoke(serial)
        return {"serial_number": serial, "status": self.rows[serial].status}

    def _spawn(self, body: dict[str, Any], manager: Row) -> dict[str, Any]:
        if "enroll:node" not in manager.identity.capabilities:
            raise Problem(403, "forbidden", "no manager", "capability-enroll:node")
        spawner = self.rows.get(body["spawner"])
        if spawner is None or spawner.status not in {"active", "pending"}:
            raise Problem(403, "forbidden", "no live spawner", "spawn-spawner")
        request = x509.load_der_x509_csr(base64.b64decode(body["csr"]))
        identity = replace(
            IDENTITY,
            subsystem=parse_subsystem(body["subsystem"]),
            node=manager.identity.node,
            agent=parse_agent_id(body["agent"]),
            endpoints=tuple(map(parse_endpoint, body["endpoints"])),
            capabilities=parse_capabilities(body["capabilities"]) & spawner.granted,
        )
        spki = spki_der(accept_public_key(request.public_key()))
        known = [row.certificate for row in self.of_agent(identity.agent)]
        certificate = next(
            (each for each in known if spki_der(accept_public_key(each.public_key())) == spki), None
        ) or self._add(identity, request, status="active", bootstrap=False)
        return {
            "agent": identity.agent,
            "serial_number": serial_hex(certificate.serial_number),
            "certificate": certificate.public_bytes(Encoding.PEM).decode(),
            "chain": self.authority.issuing.public_bytes(Encoding.PEM).decode(),
        }

    def _feed(self, since: int) -> dict[str, Any]:
        self._changed.wait_for(lambda: len(self.revoked) > since, timeout=FEED_S)
        return {
            "next": len(self.revoked),
            "revoked": [{"serial_number": each, "reason": "unspecified"} for each in self.revoked[since:]],
        }

    def _ledger(self, path: str) -> bytes:
        if path == "checkpoint":
            return self.checkpoint()
        tile = parse_path(path)
        assert isinstance(tile, Tile)
        return self.log.tile(tile.level, tile.index, tile.width)

    def _dial_back(self, caller: Row) -> None:
        if self.dial is None:
            raise Problem(403, "forbidden", "dial-back: the token fixed no address", "dial-back")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        try:
            with (
                socket.create_connection(self.dial, timeout=PATIENCE_S) as sock,
                context.wrap_socket(sock, server_hostname=caller.identity.host) as tls,
            ):
                shown = tls.getpeercert(True)
        except OSError as exc:
            raise Problem(403, "forbidden", f"dial-back: {exc}", "dial-back") from exc
        if shown != caller.certificate.public_bytes(Encoding.DER):
            raise Problem(403, "forbidden", "dial-back: showed another certificate", "dial-back")
