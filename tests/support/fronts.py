"""Fronts in child processes, with a root, a server and clients, for tests of real connections."""

from __future__ import annotations

import contextlib
import gc
import http.client
import json
import os
import select
import signal
import socket
import ssl
from collections.abc import Callable
from typing import Any

import falcon.asgi
from gunicorn.asgi.protocol import ASGIProtocol

from ostiary.edge.role import READY_FD_VARIABLE, die_with_parent
from ostiary.edge.tls import client_context
from ostiary.errors import Busy
from ostiary.front.http import create_app, read_json, write_json
from ostiary.front.peer import cut_off, peer_certificate, peer_credentials, peer_pidfd, peer_value
from ostiary.front.serve import listen_tcp, run_front
from ostiary.front.tls import FrontTLS, front_tls
from ostiary.front.worker import Front, Limits, Served
from tests.support.pki import Leaf, Root
from tests.support.waiting import PATIENCE_S

NAME = "node.shop.example"
# No deadline of the front's comes before the clients' own: who is answered did not wait for an attacker to be
# given up.
NEVER_S = int(10 * PATIENCE_S)
# The slot this worker was given; empty in the arbiter.
SLOTS: list[int] = []


PARSED: list[bytes] = []


def parse_once(der: bytes) -> int:
    """Return how often this worker has parsed a certificate, this time included."""
    PARSED.append(der)
    return len(PARSED)


def parser_of_this_worker() -> str:
    """Return which of gunicorn's parsers reads the request that is being served."""
    protocols = [each for each in gc.get_objects() if isinstance(each, ASGIProtocol)]
    parsers = {type(each._callback_parser) for each in protocols if each._callback_parser is not None}
    return ", ".join(f"{parser.__module__}.{parser.__qualname__}" for parser in parsers)


class Resource:
    """GET reports the peer, `?parser=1` what reads requests; POST echoes; `?cut=SERIAL` disconnects, `?fail`
    and `?busy` raise.
    """

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        if req.get_param("fail") is not None:
            raise RuntimeError("a secret in a message")
        if req.get_param("busy") is not None:
            raise Busy("full", retry_after_s=7)
        if req.get_param("parser", default=None) is not None:
            write_json(resp, {"parser": parser_of_this_worker(), "worker": os.getpid()})
            return
        if (serial := req.get_param("cut")) is not None:
            write_json(resp, {"cut": cut_off([int(serial)])})
            return
        der = peer_certificate()
        peer = peer_credentials()
        fd = peer_pidfd()
        if fd is not None:
            os.close(fd)
        write_json(
            resp,
            {
                "certificate": der.hex() if der else None,
                "parsed": peer_value(parse_once),
                "uid": peer.uid if peer else None,
                "pid": peer.pid if peer else None,
                "pidfd": fd is not None,
                "worker": os.getpid(),
                "scheme": req.scheme,
                "slot": SLOTS[-1],
            },
        )

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        write_json(resp, await read_json(req, dict[str, int], limit_bytes=1000))


def make_app() -> Any:
    app = create_app(audience="network")
    app.add_route("/", Resource())
    return app


class Running:
    """A front in a child process."""

    def __init__(
        self,
        sock: socket.socket,
        tls: Callable[[], FrontTLS] | None,
        *,
        leave_s: float = NEVER_S,
        **options: Any,
    ) -> None:
        """`options` are of `Limits`; `leave_s` is how long a client may send after its last answer."""
        read_fd, write_fd = os.pipe()
        parent = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            # A test run that is killed leaves no front behind.
            die_with_parent(parent)
            os.close(read_fd)
            os.environ[READY_FD_VARIABLE] = str(write_fd)
            try:
                patient = {"head_s": NEVER_S, "exchange_s": NEVER_S, "keepalive_s": NEVER_S}
                limits = Limits(stop_s=1, leave_s=leave_s, **(patient | options))

                async def start(slot: int) -> Served:
                    SLOTS.append(slot)
                    return Served(app=make_app(), tls=tls)

                run_front(Front(listeners=[sock], start=start, workers=1, limits=limits))
            finally:
                os._exit(0)
        os.close(write_fd)
        self.ready = os.read(read_fd, 1)
        os.close(read_fd)
        self.address = sock.getsockname()
        sock.close()

    def stop(self) -> None:
        """End it gracefully; kill it if it does not end, so that a test run never hangs."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)
        pidfd = os.pidfd_open(self.pid)
        if not select.select([pidfd], [], [], PATIENCE_S)[0]:
            os.kill(self.pid, signal.SIGKILL)
        os.close(pidfd)
        os.waitpid(self.pid, 0)


class Site:
    """A root, a server and a client, and connections between them."""

    def __init__(self, mode: Any, **options: Any) -> None:
        self.root = Root()
        server = self.root.leaf(NAME)
        tls = front_tls(server.identity_pem, self.root.pem, client_certificates=mode)
        self.running = Running(listen_tcp("127.0.0.1", 0), lambda: tls, **options)
        self.client = self.root.leaf("agent.shop.example")

    def connect(self, leaf: Leaf | None, *, session: ssl.SSLSession | None = None) -> ssl.SSLSocket:
        context = client_context(self.root.pem, leaf.identity_pem if leaf else None)
        return self.connect_by(context, session=session)

    def connect_by(self, context: ssl.SSLContext, *, session: ssl.SSLSession | None = None) -> ssl.SSLSocket:
        sock = socket.create_connection(self.running.address, timeout=PATIENCE_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return context.wrap_socket(sock, server_hostname=NAME, session=session)


def is_open(sock: socket.socket) -> bool:
    """Whether the other end has not closed the connection."""
    try:
        return socket.socket.recv(sock, 1, socket.MSG_PEEK | socket.MSG_DONTWAIT) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


def ask(sock: socket.socket, request: bytes = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n") -> tuple[int, Any]:
    """Send a request and read one response: status and JSON."""
    sock.sendall(request)
    return answer(sock)


def answer(sock: socket.socket) -> tuple[int, Any]:
    response = http.client.HTTPResponse(sock)
    response.begin()
    body = response.read()
    return response.status, json.loads(body)


def post(body: bytes, content_type: bytes = b"application/json", extra: bytes = b"") -> bytes:
    return b"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: %s\r\n%sContent-Length: %d\r\n\r\n%s" % (
        content_type,
        extra,
        len(body),
        body,
    )
