"""A whole CA as real processes in a home of its own, and clients for it.

    with running_ca() as ca:
        agent = ca.enroll("node-controller", capabilities=("ledger:read",))
        ca.client(agent).call("GET", "/v1/whoami", type_=dict)
        ca.admin("ca", "certificate", "list")

Other users may enter the home, so that in a test run as root each role has a user of its own.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from sqlalchemy import update

from ca.store.tables import CERTIFICATES
from ostiary.certificate import serial_hex
from ostiary.edge.home import ServiceHome
from ostiary.edge.http_client import HTTPClient, Response, tcp_connector, tls_connector
from ostiary.edge.tls import build_identity_pem, client_context
from ostiary.errors import Busy, OstiaryError
from ostiary.store.database import open_for_writing, sqlite_url
from tests.support.patient_client import PatientHTTPClient, until_answered
from tests.support.ports import free_port
from tests.support.waiting import PATIENCE_S, until

APPLICATION = "shop.example"
DOMAIN = "nodes.shop.example"
CA_NODE = f"ca.{DOMAIN}"
NODE = f"n1.{DOMAIN}"


@dataclass(frozen=True, kw_only=True)
class Agent:
    """A key and its certificate."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def serial(self) -> str:
        return serial_hex(self.certificate.serial_number)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)


@dataclass(kw_only=True)
class RunningCA:
    """A running CA."""

    home: Path
    address: tuple[str, int]
    status_address: tuple[str, int]
    process: subprocess.Popen[bytes] | None = None
    _clients: list[HTTPClient] = field(default_factory=list)

    # --- the command line ---

    def admin(self, *arguments: str) -> Any:
        """Run `ostiary --json ...`, again while the service is busy, and return its result; AssertionError
        with its stderr if it fails.
        """
        done = until_answered(lambda: self._run_unless_busy(arguments))
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def _run_unless_busy(self, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
        done = self.run(*arguments)
        if done.returncode == 1 and "urn:ostiary:problem:busy" in done.stderr:
            raise Busy(done.stderr)
        return done

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        argv = [*_OSTIARY, "--home", os.fspath(self.home), "--json", *arguments]
        return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=PATIENCE_S)

    # --- life ---

    def start(self) -> None:
        """Start all roles and wait until the front is ready."""
        log = (self.home / "serve.log").open("ab")
        with log:
            self.process = subprocess.Popen(
                [*_OSTIARY, "--home", os.fspath(self.home), "ca", "serve"],
                stdout=log,
                stderr=log,
            )
        until(self._is_ready, lambda: f"readiness: {self.log()[-3000:]}")

    def _is_ready(self) -> bool:
        ended = self.process.poll() if self.process is not None else None
        assert ended is None, f"ca serve ended with {ended}: {self.log()[-3000:]}"
        with contextlib.suppress(OstiaryError), self.client(is_patient=False) as client:
            self.status("/healthz")
            return client.request("GET", "/readyz").status == 200
        return False

    def stop(self) -> None:
        for client in self._clients:
            client.close()
        self._clients.clear()
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(timeout=PATIENCE_S)
            self.process = None

    def log(self) -> str:
        return (self.home / "serve.log").read_text("utf-8", "replace")

    # --- what is public ---

    @property
    def public(self) -> Path:
        return self.home / "ca" / "public"

    @property
    def root_pem(self) -> bytes:
        return (self.public / "root.pem").read_bytes()

    @property
    def issuing_pem(self) -> bytes:
        return (self.public / "issuing.pem").read_bytes()

    # --- clients ---

    def client(self, agent: Agent | None = None, *, is_patient: bool = True) -> HTTPClient:
        """Return a keep-alive client of the front, with an agent's certificate if one is given."""
        identity = None
        if agent is not None:
            issuing = x509.load_pem_x509_certificate(self.issuing_pem)
            identity = build_identity_pem(agent.key, [agent.certificate, issuing])
        context = client_context(self.root_pem, identity)
        connector = tls_connector(
            self.address, server_name=CA_NODE, context=lambda: context, timeout_s=PATIENCE_S
        )
        made = PatientHTTPClient if is_patient else HTTPClient
        client = made(connector, host=CA_NODE)
        self._clients.append(client)
        return client

    def status(self, path: str) -> Response:
        """GET from the status instance, over plain HTTP."""
        with HTTPClient(tcp_connector(self.status_address, timeout_s=PATIENCE_S), host="status") as client:
            return client.request("GET", path)

    # --- what clients do ---

    def token(self, subsystem: str, *, capabilities: Sequence[str] = (), **options: str) -> dict[str, str]:
        """Run `ca token create`."""
        arguments = ["--subsystem", subsystem, "--node", options.pop("node", NODE)]
        for capability in capabilities:
            arguments += ["--capability", capability]
        for name, value in options.items():
            arguments += [f"--{name}", value]
        made: dict[str, str] = self.admin("ca", "token", "create", *arguments)
        return made

    def redeem(self, token: str, key: ec.EllipticCurvePrivateKey, client: HTTPClient | None = None) -> Agent:
        """POST simpleenroll with a token's text."""
        user = token.split("_")[1]
        credentials = base64.b64encode(f"{user}:{token}".encode()).decode()
        response = (client or self.client()).request(
            "POST",
            "/.well-known/est/simpleenroll",
            body=base64.b64encode(csr_of(key)),
            content_type="application/pkcs10",
            headers={"Authorization": f"Basic {credentials}"},
        )
        return Agent(key=key, certificate=certificate_in(response))

    def enroll(self, subsystem: str, *, capabilities: Sequence[str] = (), **options: str) -> Agent:
        """Enroll a new agent with a new token; its certificate is active at once."""
        return self.redeem(self.token(subsystem, capabilities=capabilities, **options)["token"], new_key())

    def renew(self, agent: Agent) -> Agent:
        """POST simplereenroll with a new key."""
        key = new_key()
        response = self.client(agent).request(
            "POST",
            "/.well-known/est/simplereenroll",
            body=base64.b64encode(csr_of(key)),
            content_type="application/pkcs10",
        )
        return Agent(key=key, certificate=certificate_in(response))

    def age(self, serial: str) -> None:
        """Let half of a certificate's life be over, as far as the recorder knows, so that it may be renewed;
        the certificate itself stays as it is.
        """
        engine = open_for_writing(sqlite_url(ServiceHome(self.home / "ca").database))
        begins, ends = CERTIFICATES.c.not_before, CERTIFICATES.c.not_after
        with engine.begin() as tx:
            one = update(CERTIFICATES).where(CERTIFICATES.c.serial == serial)
            assert tx.execute(one.values(not_before=2 * begins - ends)).rowcount == 1
        engine.dispose()

    def spawn(self, manager: Agent, spawner: Agent, **changes: object) -> Agent:
        """POST /v1/agents for a component-harness."""
        key = new_key()
        asked = {
            "subsystem": "component-harness",
            "capabilities": ["credential:use"],
            "endpoints": [],
            "spawner": spawner.serial,
            "csr": base64.b64encode(csr_of(key)).decode(),
            "agent": str(uuid.uuid4()),
        } | changes
        answer = self.client(manager).call("POST", "/v1/agents", asked, type_=dict[str, str])
        return Agent(key=key, certificate=x509.load_pem_x509_certificate(answer["certificate"].encode()))

    def revoke(self, by: Agent, serial: str, reason: str = "cessationOfOperation") -> None:
        self.client(by).call(
            "POST", f"/v1/certificates/{serial}/revoke", {"reason": reason}, type_=dict[str, Any]
        )


_OSTIARY = [sys.executable, "-m", "ostiary.cli"]


@contextlib.contextmanager
def running_ca() -> Iterator[RunningCA]:
    """Make a CA in a temporary home and run it on free ports of loopback."""
    # Short, because socket paths have 107 bytes; below /tmp, because pytest's own directories let nobody else
    # in.
    home = Path(tempfile.mkdtemp(prefix="ost-", dir="/tmp"))
    home.chmod(0o755)
    address, status_address = ("127.0.0.1", free_port()), ("127.0.0.1", free_port())
    ca = RunningCA(home=home, address=address, status_address=status_address)
    try:
        ca.admin(
            *("ca", "init", "--application", APPLICATION, "--node-domain", DOMAIN, "--node", CA_NODE),
            *("--listen", f"{address[0]}:{address[1]}"),
            *("--status-listen", f"{status_address[0]}:{status_address[1]}"),
        )
        ca.start()
        yield ca
    finally:
        with contextlib.suppress(subprocess.TimeoutExpired):
            ca.stop()
        shutil.rmtree(home, ignore_errors=True)


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def csr_of(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return a CSR (DER) without names."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def certificate_in(response: Response) -> x509.Certificate:
    """Return the one certificate of an EST response."""
    (certificate,) = pkcs7.load_der_pkcs7_certificates(base64.b64decode(response.body))
    return certificate
