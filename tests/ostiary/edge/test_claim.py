"""Claiming from a manager: what is sent, what comes back, and what a repr shows of it."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ostiary.edge.claim import Claimed, claim
from ostiary.edge.problems import PROBLEM_TYPE
from ostiary.errors import Busy, Conflict, InternalFault
from ostiary.secret import Secret

KEY = "-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----\n"
CHAIN = "-----BEGIN CERTIFICATE-----\nleaf\n-----END CERTIFICATE-----\n"


@contextmanager
def manager(path: Path, status: str, content_type: str, body: object) -> Iterator[list[bytes]]:
    """A manager that answers one request; yields what it received."""
    received: list[bytes] = []
    encoded = json.dumps(body).encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(encoded)}\r\n\r\n"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen(1)

    def serve() -> None:
        sock, _ = listener.accept()
        with sock:
            request = b""
            while not request.endswith(b"}"):
                request += sock.recv(65536)
            received.append(request)
            sock.sendall(head.encode() + encoded)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield received
    thread.join()
    listener.close()


def test_a_claim_gives_key_and_chain_in_one_pem(tmp_path: Path) -> None:
    answer = {"key": KEY, "chain": CHAIN, "root": CHAIN, "agent": "unknown members are allowed"}
    with manager(tmp_path / "s", "200 OK", "application/json", answer) as received:
        claimed = claim(tmp_path / "s", Secret(b"ost_token"), lease=True)
    assert claimed.identity_pem() == f"{KEY}\n{CHAIN}".encode()
    head, _, body = received[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v1/claim HTTP/1.1\r\n")
    assert json.loads(body) == {"token": "ost_token", "lease": True}


def test_a_claims_repr_shows_no_key() -> None:
    assert "hunter2" not in f"{Claimed(key=KEY, chain=CHAIN, root=CHAIN)!r}"


def test_a_problem_document_becomes_its_error(tmp_path: Path) -> None:
    problem = {
        "type": "urn:ostiary:problem:conflict",
        "title": "t",
        "status": 409,
        "detail": "token is spent",
    }
    with (
        manager(tmp_path / "s", "409 Conflict", PROBLEM_TYPE, problem),
        pytest.raises(Conflict, match="token is spent"),
    ):
        claim(tmp_path / "s", Secret(b"ost_token"), lease=False)


def test_an_answer_without_a_key_is_the_managers_fault(tmp_path: Path) -> None:
    with (
        manager(tmp_path / "s", "200 OK", "application/json", {"chain": CHAIN, "root": CHAIN}),
        pytest.raises(InternalFault, match="malformed response"),
    ):
        claim(tmp_path / "s", Secret(b"ost_token"), lease=False)


def test_a_manager_that_is_not_there_is_busy(tmp_path: Path) -> None:
    with pytest.raises(Busy, match="no response from 'certificate-manager'"):
        claim(tmp_path / "s", Secret(b"ost_token"), lease=False)
