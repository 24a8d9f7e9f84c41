"""A whole credentials service as real processes in a directory of its own, with a stand-in CA and manager;
reusable by other tests.

with running() as service:
    service.put_aws()                        # approved module, credential, policy
    agent = service.authority.agent("component", capabilities=["credential:use"])
    service.client(agent).use("billing-aws", "sign", {...})
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from credsvc.client import SigningClient
from ostiary.edge.tls import client_context
from ostiary.errors import Busy, OstiaryError
from tests.support.identities import Agent, Authority
from tests.support.patient_client import PatientSigningClient, until_answered
from tests.support.ports import free_port
from tests.support.repository import ROOT
from tests.support.stand_ins import CA_NAME, ClaimManager, RevocationCA
from tests.support.waiting import PATIENCE_S, until

APPLICATION = "shop.example"
SERVICE_NODE = "credentials.nodes.shop.example"
LIBRARY = ROOT / "modules"
CLAIM_TOKEN = "a claim token that the stand-in knows"
PASSPHRASE = "correct horse battery staple"
AWS_SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
POLICY = """
@id("components-sign-aws")
permit(
  principal in SubSystem::"component",
  action in [Action::"aws-sigv4/sign", Action::"aws-sigv4/presign", Action::"aws-sigv4/sign_chunk"],
  resource in Label::"billing"
);
@id("components-sign-gogrid")
permit(principal in SubSystem::"component", action == Action::"gogrid/sign", resource in Label::"billing");
"""


class CommandFailed(Exception):
    """A command of `ostiary` ended with another code than 0."""


@dataclass(kw_only=True)
class Service:
    """A service that runs, or will; `offset_s` shifts its processes' clock (libfaketime)."""

    folder: Path
    authority: Authority
    ca: RevocationCA
    manager: ClaimManager
    port: int
    environment: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    clients: list[SigningClient] = field(default_factory=list)

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text("utf-8", "replace")

    def command(self, *arguments: str, secrets: Sequence[str] = ()) -> Any:
        """Run `ostiary --json ...`, again while the service is busy, and return its result; each secret goes
        to a `fd:{}` in the arguments, in order.
        """
        return until_answered(lambda: self._command_once(arguments, secrets))

    def _command_once(self, arguments: Sequence[str], secrets: Sequence[str]) -> Any:
        with contextlib.ExitStack() as stack:
            fds = [stack.enter_context(_secret_fd(secret)) for secret in secrets]
            numbers = iter(fds)
            argv = [word.replace("{}", str(next(numbers))) if "fd:{}" in word else word for word in arguments]
            done = subprocess.run(
                [sys.executable, "-m", "ostiary.cli", "--json", "--home", str(self.home), *argv],
                pass_fds=fds,
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
                timeout=PATIENCE_S,
            )
        if done.returncode == 1 and b"urn:ostiary:problem:busy" in done.stderr:
            raise Busy(done.stderr.decode())
        if done.returncode != 0:
            raise CommandFailed(done.stderr.decode())
        return json.loads(done.stdout) if done.stdout else None

    def init(self) -> None:
        root = self.folder / "root.pem"
        root.write_bytes(self.authority.pem)
        self.command(
            *("credsvc", "init", "--application", APPLICATION, "--node", SERVICE_NODE, "--root", str(root)),
            *("--ca-url", f"https://{CA_NAME}", "--ca-address", f"127.0.0.1:{self.ca.port}"),
            *("--manager-socket", str(self.folder / "m")),
            *("--approver-key", str(self.folder / "approver"), "--passphrase", "fd:{}"),
            secrets=[PASSPHRASE],
        )

    def start(self) -> None:
        """Start the processes and wait until the front serves."""
        with (self.folder / "log").open("ab") as log, _secret_fd(CLAIM_TOKEN) as fd:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "ostiary.cli", "--home", str(self.home), "credsvc", "serve"),
                    *("--listen", f"127.0.0.1:{self.port}", "--claim", f"fd:{fd}"),
                ],
                pass_fds=[fd],
                env={**os.environ, **self.environment},
                stdout=log,
                stderr=log,
            )
        self._wait_ready()

    def _wait_ready(self) -> None:
        prober = self.client(self.authority.agent("prober"), is_patient=False)

        def is_ready() -> bool:
            if self.process is None or self.process.poll() is not None:
                raise RuntimeError(f"the service ended:\n{self.log}")
            with contextlib.suppress(OstiaryError), prober._http() as http:
                return http.request("GET", "/readyz").status == 200
            return False

        until(is_ready, lambda: f"readiness:\n{self.log}")

    def stop(self) -> None:
        for client in self.clients:
            client.close()
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(timeout=PATIENCE_S)
            self.process = None

    def client(self, agent: Agent, *, is_patient: bool = True) -> SigningClient:
        context = client_context(self.authority.pem, agent.identity_pem)
        made = PatientSigningClient if is_patient else SigningClient
        client = made(f"https://{SERVICE_NODE}", context, address=("127.0.0.1", self.port))
        self.clients.append(client)
        return client

    def get(self, agent: Agent, path: str) -> Any:
        """GET a JSON resource as an agent."""
        with self.client(agent)._http() as http:
            return http.call("GET", path, type_=dict[str, Any])

    def approve(self, module: str | Path) -> None:
        """Propose and approve a module of the library, or one in a folder."""
        folder = LIBRARY / module if isinstance(module, str) else module
        name = self.command("module", "load", str(folder))["name"]
        self.command(
            *("module", "approve", name, "--key", str(self.folder / "approver"), "--passphrase", "fd:{}"),
            secrets=[PASSPHRASE],
        )

    def put(
        self,
        name: str,
        module: str,
        *,
        fields: Mapping[str, str],
        secret: tuple[str, str],
        ceiling: Sequence[str] = (),
    ) -> None:
        """Put a credential with the label `billing`."""
        self.command(
            *("credential", "put", name, "--module", module, "--owner", "component", "--label", "billing"),
            *(word for field_name, value in fields.items() for word in ("--field", f"{field_name}={value}")),
            *(word for bound in ceiling for word in ("--ceiling", bound)),
            *("--secret", f"{secret[0]}=fd:{{}}"),
            secrets=[secret[1]],
        )

    def set_policy(self, text: str = POLICY) -> None:
        file = self.folder / "policy.cedar"
        file.write_text(text)
        self.command("policy", "set", str(file))


@contextmanager
def made(*, environment: Mapping[str, str] | None = None) -> Iterator[Service]:
    """A service that was initialised and does not run yet."""
    folder = Path(tempfile.mkdtemp(prefix="ost"))
    folder.chmod(0o755)  # roles with users of their own must be able to pass
    authority = Authority(APPLICATION)
    ca = RevocationCA(authority)
    own = authority.agent("credentials-service", node=SERVICE_NODE, named_by_node=True)
    manager = ClaimManager(folder / "m", token=CLAIM_TOKEN, agent=lambda: own)
    service = Service(
        folder=folder,
        authority=authority,
        ca=ca,
        manager=manager,
        port=free_port(),
        environment=dict(environment or {}),
    )
    try:
        service.init()
        yield service
    finally:
        service.stop()
        manager.close()
        ca.close()
        shutil.rmtree(folder)


@contextmanager
def running() -> Iterator[Service]:
    """A service with both shipped modules approved, a credential of each, and a policy."""
    with made() as service:
        service.start()
        for module in ("aws-sigv4", "gogrid"):
            service.approve(module)
        service.put(
            "billing-aws",
            "aws-sigv4",
            fields={"access_key_id": "AKIDEXAMPLE"},
            secret=("secret_key", AWS_SECRET),
            ceiling=("region=eu-*",),
        )
        service.put("grid", "gogrid", fields={"api_key": "foo"}, secret=("shared_secret", "bar"))
        service.set_policy()
        yield service


@contextmanager
def _secret_fd(secret: str) -> Iterator[int]:
    read, write = os.pipe()
    try:
        os.write(write, secret.encode())
        os.close(write)
        yield read
    finally:
        os.close(read)
