"""Stand-ins for what a credentials service leans on: a CA that only tells revocations, a manager that only
answers claims.
"""

from __future__ import annotations

import json
import socketserver
import ssl
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from ostiary.edge.tls import sealed_memfd
from tests.support.identities import Agent, Authority

CA_NAME = "ca.nodes.shop.example"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, value: object, status: int = 200) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "local"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's signature
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a client that ends its connection is no news


class RevocationCA:
    """Serves `/v1/revocations` over mTLS; `revoke` is heard by whoever polls."""

    def __init__(self, authority: Authority) -> None:
        self._changed = threading.Condition()
        self._closed = False
        self._revoked: list[str] = []
        # How many polls wait for news.
        self.waiting = 0
        identity = authority.agent("certificate-authority", node=CA_NAME, named_by_node=True)
        outer = self

        class Handler(_Handler):
            def do_GET(self) -> None:
                query = parse_qs(urlsplit(self.path).query)
                self.answer(outer.since(int(query["since"][0]), float(query["wait"][0])))

        self._server = _Server(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_verify_locations(cadata=authority.pem.decode())
        context.verify_mode = ssl.CERT_REQUIRED
        with sealed_memfd(identity.identity_pem) as path:
            context.load_cert_chain(path)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def revoke(self, serial: str) -> None:
        with self._changed:
            self._revoked.append(serial)
            self._changed.notify_all()

    def since(self, number: int, wait_s: float) -> dict[str, Any]:
        with self._changed:
            self.waiting += 1
            self._changed.wait_for(lambda: len(self._revoked) > number or self._closed, timeout=wait_s)
            self.waiting -= 1
            news = self._revoked[number:]
            line = {"revoked_at": 0, "reason": "cessationOfOperation"}
            return {
                "next": number + len(news),
                "revoked": [{"serial_number": serial, **line} for serial in news],
            }

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._server.shutdown()
        self._server.server_close()


class _UnixServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


class ClaimManager:
    """Answers `POST /v1/claim` on a UNIX socket with one agent's key and certificate; counts the claims."""

    def __init__(self, path: Path, *, token: str, agent: Callable[[], Agent]) -> None:
        outer = self
        self.claims = 0

        class Handler(_Handler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if self.path != "/v1/claim" or body != {"token": token, "lease": False}:
                    self.answer(
                        {"type": "urn:ostiary:problem:unauthenticated", "title": "", "status": 401}, 401
                    )
                    return
                outer.claims += 1
                self.answer(claimed_json(agent()))

        self._server = _UnixServer(str(path), Handler)
        path.chmod(0o777)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def claimed_json(agent: Agent) -> dict[str, Any]:
    """What a manager answers to a claim."""
    key = agent.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    certificate = agent.certificate.public_bytes(Encoding.PEM).decode()
    return {
        "agent": agent.agent,
        "certificate": certificate,
        "key": key.decode(),
        "chain": certificate,
        "root": certificate,
        "not_after": int(agent.certificate.not_valid_after_utc.timestamp()),
    }
