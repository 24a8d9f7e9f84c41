"""OpenBao: certificates of its pki engine, which it stores, and HMACs of its transit engine; each request is
in the log of a file audit device.

Storage is raft on disk, as its documentation advises. Clients show a certificate, as ours do, and a token
whose policy allows the two paths.
"""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from benchmarks.load import NUMBER, SECONDS, Identity, Load, Measured, request_bytes, run_load
from benchmarks.peers.server import NODE, Server
from benchmarks.peers.step_ca import csr_pem
from ostiary.edge.http_client import HTTPClient, tls_connector
from ostiary.edge.tls import client_context
from ostiary.errors import OstiaryError
from tests.support.pki import Root
from tests.support.ports import free_port
from tests.support.waiting import PATIENCE_S, until

_SIGN: Final = "/v1/pki/sign/agents"
_HMAC: Final = "/v1/transit/hmac/agents"
_RESERVED: Final = 400_000
"""Numbers for one load."""
_POLICY: Final = """
path "pki/sign/agents" { capabilities = ["update"] }
path "transit/hmac/agents" { capabilities = ["update"] }
"""


class OpenBao(Server):
    """One OpenBao, unsealed and set up."""

    name = "OpenBao"

    def __init__(self, program: Path) -> None:
        super().__init__()
        self._program = program
        self._root = Root("Root of the benchmark")
        self._identity = Identity(pem=self._root.leaf("manager.nodes.shop.example").identity_pem)
        self._token = ""
        self._number = 0

    def prepare(self) -> None:
        server = self._root.leaf(NODE)
        key = server.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (self.folder / "root.pem").write_bytes(self._root.pem)
        (self.folder / "server.pem").write_bytes(server.certificate.public_bytes(Encoding.PEM))
        (self.folder / "server.key").write_bytes(key)
        (self.folder / "raft").mkdir()
        (self.folder / "config.json").write_text(json.dumps(self._settings()))

    def _settings(self) -> dict[str, Any]:
        listener = {
            "address": f"{self.address[0]}:{self.address[1]}",
            "tls_cert_file": str(self.folder / "server.pem"),
            "tls_key_file": str(self.folder / "server.key"),
            "tls_client_ca_file": str(self.folder / "root.pem"),
            "tls_require_and_verify_client_cert": True,
            "tls_min_version": "tls13",
        }
        return {
            "storage": {"raft": {"path": str(self.folder / "raft"), "node_id": "one"}},
            "listener": [{"tcp": listener}],
            "api_addr": f"https://{NODE}:{self.address[1]}",
            "cluster_addr": f"https://127.0.0.1:{free_port()}",
            "audit": [{"file": {"bench": {"options": {"file_path": str(self.folder / "audit.log")}}}}],
            "log_level": "warn",
        }

    def command(self) -> Sequence[str]:
        return [str(self._program), "server", "-config=config.json"]

    def configure(self) -> None:
        """Initialise, unseal, and mount what is measured."""
        begun = self._call("PUT", "sys/init", {"secret_shares": 1, "secret_threshold": 1})
        self._token = begun["root_token"]
        self._call("PUT", "sys/unseal", {"key": begun["keys"][0]})
        until(self._is_active, lambda: f"OpenBao is active: {self.log()[-3000:]}")
        self._call("POST", "sys/mounts/pki", {"type": "pki", "config": {"max_lease_ttl": "87600h"}})
        root = {"common_name": "Root", "key_type": "ec", "key_bits": 256, "ttl": "8760h"}
        self._call("POST", "pki/root/generate/internal", root)
        role = {"allow_any_name": True, "key_type": "ec", "key_bits": 256, "ttl": "2h", "max_ttl": "2h"}
        self._call("POST", "pki/roles/agents", role | {"no_store": False})
        self._call("POST", "sys/mounts/transit", {"type": "transit"})
        self._call("POST", "transit/keys/agents", {"type": "aes256-gcm96"})
        self._call("PUT", "sys/policies/acl/agents", {"policy": _POLICY})
        made = self._call("POST", "auth/token/create", {"policies": ["agents"], "ttl": "24h"})
        self._token = made["auth"]["client_token"]

    def issue(self, *, clients: int, count: int, seconds: float = SECONDS) -> Measured:
        """Have certificates made and stored; `count` requests are made beforehand."""
        requests = [self._request(_SIGN, {"csr": _csr()}) for _ in range(count)]
        return self._load(requests, clients=clients, seconds=seconds, repeats=False)

    def hmac(self, *, clients: int, seconds: float = SECONDS) -> Measured:
        """Have HMACs made, each of another input."""
        # Base64 of three bytes is four characters, and digits are some of them: numbers stay numbers.
        padded = base64.b64encode(b"GET /photos/2026/a").decode() + f"{NUMBER}0"
        requests = [self._request(_HMAC, {"input": padded})]
        self._number += _RESERVED
        return self._load(requests, clients=clients, seconds=seconds, repeats=True)

    def _load(self, requests: Sequence[bytes], *, clients: int, seconds: float, repeats: bool) -> Measured:
        return run_load(
            Load(
                address=self.address,
                server_name=NODE,
                root_pem=self._root.pem,
                identities=[self._identity],
                requests=requests,
                repeats=repeats,
                first_number=self._number,
                connections=clients,
                seconds=seconds,
            ),
            cpu=self.cpu,
        )

    def _request(self, path: str, value: dict[str, Any]) -> bytes:
        return request_bytes(
            "POST",
            path,
            json.dumps(value).encode(),
            host=NODE,
            content_type="application/json",
            headers={"X-Vault-Token": self._token},
        )

    def _call(self, method: str, path: str, value: dict[str, Any]) -> dict[str, Any]:
        """One call of the API; an empty answer is an empty object."""
        context = client_context(self._root.pem, self._identity.pem)
        connector = tls_connector(
            self.address, server_name=NODE, context=lambda: context, timeout_s=PATIENCE_S
        )
        with HTTPClient(connector, host=NODE) as client:
            answer = client.request(
                method,
                f"/v1/{path}",
                body=json.dumps(value).encode() if value else None,
                content_type="application/json",
                headers={"X-Vault-Token": self._token} if self._token else {},
            )
        told: dict[str, Any] = json.loads(answer.body) if answer.body else {}
        return told

    def _is_active(self) -> bool:
        # 200 only of an unsealed and active server.
        try:
            self._call("GET", "sys/health", {})
        except OstiaryError:
            return False
        return True


def _csr() -> str:
    return csr_pem(f"{uuid.uuid4()}.n1.nodes.shop.example")
