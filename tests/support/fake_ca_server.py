"""The HTTPS server of `tests.support.fake_ca`: TLS with an optional client certificate, problem documents."""

from __future__ import annotations

import contextlib
import http.server
import json
import ssl
from typing import Any, Protocol

from cryptography import x509

from tests.support.waiting import PATIENCE_S


class Problem(Exception):
    def __init__(self, status: int, kind: str, detail: str, rule: str = "") -> None:
        super().__init__(detail)
        self.status, self.kind, self.detail, self.rule = status, kind, detail, rule


class Answering(Protocol):
    """The application behind the server; `away` drops every connection before its handshake."""

    away: bool

    def answer(
        self, method: str, path: str, peer: x509.Certificate | None, body: bytes, auth: str
    ) -> tuple[int, str, bytes]: ...


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, fake: Answering, context: ssl.SSLContext, port: int) -> None:
        self.fake, self.context = fake, context
        super().__init__(("127.0.0.1", port), _Handler)

    def finish_request(self, request: Any, client_address: Any) -> None:
        if self.fake.away:
            return
        with contextlib.suppress(OSError):
            request.settimeout(PATIENCE_S)
            with self.context.wrap_socket(request, server_side=True) as wrapped:
                super().finish_request(wrapped, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # one write per answer, or Nagle and delayed ACKs add 40 ms
    server: Server

    def do_GET(self) -> None:
        self._do(b"")

    def do_POST(self) -> None:
        self._do(self.rfile.read(int(self.headers.get("Content-Length", "0"))))

    def _do(self, body: bytes) -> None:
        der = self.connection.getpeercert(True)
        peer = x509.load_der_x509_certificate(der) if der else None
        try:
            status, kind, content = self.server.fake.answer(
                self.command, self.path, peer, body, self.headers.get("Authorization", "")
            )
        except Problem as exc:
            problem = {"type": f"urn:ostiary:problem:{exc.kind}", "title": "", "status": exc.status}
            status, kind = exc.status, "application/problem+json"
            content = json.dumps(problem | {"detail": exc.detail, "rule": exc.rule}).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name the base class has
        pass
