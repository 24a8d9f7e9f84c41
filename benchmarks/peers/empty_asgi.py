"""An empty application behind mutual TLS: what gunicorn's own asgi worker and falcon cost without anything of
ours. Its TLS is Python's.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

import falcon
import falcon.asgi
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from benchmarks.load import SECONDS, Identity, Load, Measured, run_load
from benchmarks.peers.server import NODE, Server
from benchmarks.signing import PATH, SINGLE
from tests.support.pki import Root
from tests.support.repository import ROOT

WORKERS = 2
"""As many as our fronts have."""


class _Anything:
    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        await req.stream.read()
        resp.data = b"{}"
        resp.content_type = "application/json"


def make_app() -> falcon.asgi.App[falcon.asgi.Request, falcon.asgi.Response]:
    """The application: it reads a body and answers a constant."""
    app = falcon.asgi.App()
    app.add_route(PATH, _Anything())
    return app


class EmptyASGI(Server):
    """gunicorn with the empty application."""

    name = "empty"

    def __init__(self) -> None:
        super().__init__()
        self._root = Root("Root of the benchmark")
        self._identity = Identity(pem=self._root.leaf("agent.nodes.shop.example").identity_pem)

    def prepare(self) -> None:
        server = self._root.leaf(NODE)
        key = server.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (self.folder / "root.pem").write_bytes(self._root.pem)
        (self.folder / "server.pem").write_bytes(server.certificate.public_bytes(Encoding.PEM))
        (self.folder / "server.key").write_bytes(key)

    def command(self) -> Sequence[str]:
        return [
            *(sys.executable, "-m", "gunicorn", "benchmarks.peers.empty_asgi:make_app()"),
            *("--worker-class", "asgi", "--http-parser", "python", "--asgi-loop", "asyncio"),
            *("--workers", str(WORKERS), "--keep-alive", "60", "--no-control-socket"),
            *("--bind", f"{self.address[0]}:{self.address[1]}", "--log-level", "warning"),
            *("--certfile", "server.pem", "--keyfile", "server.key", "--ca-certs", "root.pem"),
            *("--cert-reqs", "2"),  # ssl.CERT_REQUIRED
        ]

    def environment(self) -> Mapping[str, str]:
        return {**super().environment(), "PYTHONPATH": str(ROOT)}

    def load(self, *, clients: int, seconds: float = SECONDS) -> Measured:
        """Send it what the credentials service gets."""
        return run_load(
            Load(
                address=self.address,
                server_name=NODE,
                root_pem=self._root.pem,
                identities=[self._identity],
                requests=[SINGLE],
                repeats=True,
                connections=clients,
                seconds=seconds,
            ),
            cpu=self.cpu,
        )
