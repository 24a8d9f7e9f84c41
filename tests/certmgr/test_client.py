"""The agents' library: how it reads the manager's answers, and its TLS context that renews itself."""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from certmgr import client
from certmgr.client import AgentIdentity, Claimed, ManagerError, RenewingContext
from keyutils import agent_keys, keyring
from keyutils.payload import EpochSeconds
from tests.support.pki import Root
from tests.support.running_manager import ENVIRONMENT

ROOT = Root()
AGENT = "5b1f1a3e-7a0c-4c1d-9b55-0c3b9f3f2a10"


def claimed(generation: int, *, ages_s: int = 0, name: str = "server.example") -> Claimed:
    """A certificate with a lifetime of one hour, issued `ages_s` seconds ago."""
    leaf = ROOT.leaf(name)
    key, _, chain = leaf.identity_pem.partition(b"-----BEGIN CERTIFICATE-----\n")
    now = int(time.time()) - ages_s
    pem = b"-----BEGIN CERTIFICATE-----\n" + chain
    return Claimed(
        agent=AGENT,
        generation=generation,
        not_before=EpochSeconds(now),
        not_after=EpochSeconds(now + 3600),
        key=key,
        certificate=pem,
        chain=pem,
        root=ROOT.pem,
    )


class ScriptedClaims:
    """Replaces `client.claim`: returns or raises the next of its answers, and keeps the questions."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: Claimed | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str | None, str | None]] = []
        monkeypatch.setattr(client, "claim", self)

    def __call__(self, _path: object, token: str | None, *, agent: str | None = None) -> Claimed:
        self.asked.append((token, agent))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def handshake(server: ssl.SSLContext, towards: ssl.SSLContext) -> tuple[bytes, bytes]:
    """Return the certificates that the client and the server received, DER."""
    here, there = socket.socketpair()
    seen: list[bytes] = []

    def serve() -> None:
        with server.wrap_socket(there, server_side=True) as wrapped:
            seen.append(wrapped.getpeercert(True) or b"")
            wrapped.send(b"x")

    running = threading.Thread(target=serve)
    running.start()
    with towards.wrap_socket(here, server_hostname="server.example") as wrapped:
        wrapped.recv(1)
        shown = wrapped.getpeercert(True) or b""
    running.join()
    return shown, seen[0]


def open_scripted(token: str | None = "token") -> AgentIdentity:
    return client.open_agent(socket_path="/nowhere", token=token)


def test_a_context_presents_the_certificate_and_trusts_only_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    first = claimed(1)
    ScriptedClaims(monkeypatch, first, first)
    one, other = open_scripted(), open_scripted()
    shown, seen = handshake(one.ssl_context(server_side=True), other.ssl_context())
    der = ssl.PEM_cert_to_DER_cert(first.certificate.decode())
    assert (shown, seen) == (der, der)
    stranger = replace(first, root=Root().pem)
    ScriptedClaims(monkeypatch, stranger)
    context = open_scripted().ssl_context()
    assert context.check_hostname
    assert isinstance(context, RenewingContext)
    here, there = socket.socketpair()
    failing = threading.Thread(target=lambda: _swallow(one.ssl_context(server_side=True), there))
    failing.start()
    with pytest.raises(ssl.SSLCertVerificationError), here:
        context.wrap_socket(here, server_hostname="server.example")
    failing.join()


def _swallow(context: ssl.SSLContext, sock: socket.socket) -> None:
    try:
        context.wrap_socket(sock, server_side=True).close()
    except OSError:
        sock.close()


def test_a_context_renews_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = claimed(1, ages_s=3000), claimed(2)
    claims = ScriptedClaims(monkeypatch, old, claimed(9), new)
    server, mine = open_scripted(), open_scripted("mine")
    server._claimed = claimed(1)
    context = mine.ssl_context()
    mine._claimed = old
    mine._tried = -1e9
    assert mine.current() == new
    assert claims.asked[-1] == (None, AGENT)
    _, seen = handshake(server.ssl_context(server_side=True), context)
    assert seen == ssl.PEM_cert_to_DER_cert(new.certificate.decode())
    bio = context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="server.example")
    assert isinstance(bio, ssl.SSLObject)


def test_while_the_manager_is_away_the_old_certificate_works_until_it_expires(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old, away = claimed(1, ages_s=3000), ManagerError("away", kind="busy")
    claims = ScriptedClaims(monkeypatch, old, away, away)
    identity = open_scripted()
    identity._tried = -1e9
    assert identity.current() == old
    assert identity.current() == old  # asked once in five seconds only
    assert len(claims.asked) == 2
    identity._claimed = claimed(1, ages_s=3700)
    identity._tried = -1e9
    with pytest.raises(ManagerError):
        identity.current()


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b"", "internal-fault"),
        (b"HTTP/1.1 200 OK\r\n\r\nno json", "internal-fault"),
        (b"HTTP/1.1 200 OK\r\n\r\n[]", "internal-fault"),
        (
            b'HTTP/1.1 403 F\r\n\r\n{"type":"urn:ostiary:problem:forbidden","detail":"no","rule":"r"}',
            "forbidden",
        ),
        (b'HTTP/1.1 404 N\r\n\r\n{"type":"urn:ostiary:problem:not-found","title":"t"}', "not-found"),
    ],
)
def test_malformed_and_refusing_answers_raise(answer: bytes, kind: str) -> None:
    with pytest.raises(ManagerError) as caught:
        client._parse(answer)
    assert caught.value.kind == kind


def test_an_absent_manager_is_busy(tmp_path: Path) -> None:
    with pytest.raises(ManagerError, match="does not answer") as caught:
        client.call(tmp_path / "none", "GET", "/v1/status")
    assert caught.value.kind == "busy"
    assert not client.upcall_reaches(tmp_path / "none")


def test_a_key_kept_in_the_session_is_found() -> None:
    done: list[Any] = []

    def session() -> None:
        try:
            agent_keys.join_session()
        except keyring.KeyringError as exc:
            done.append(exc)
            return
        given = claimed(3)
        client.keep_in_session(given)
        done.extend([client.session_agents(), client.claim_by_keyring(AGENT, None) == given])

    thread = threading.Thread(target=session)
    thread.start()
    thread.join()
    if isinstance(done[0], keyring.KeyringError):
        pytest.skip(f"needs the key retention service: {done[0]}")
    assert done == [[AGENT], True]


def test_importing_the_client_loads_little() -> None:
    script = (
        "import sys; from certmgr import client; print(*{name.partition('.')[0] for name in sys.modules})"
    )
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=ENVIRONMENT, check=True
    )
    assert not {"cryptography", "falcon", "gunicorn", "msgspec", "ctypes", "http"} & set(found.stdout.split())
