"""Each listener of the services refuses what is malformed as a front alone does (test_malformed_requests.py):
over plain HTTP, over TLS with a certificate that is good, and over a UNIX socket.
"""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509

from ostiary.edge.tls import build_identity_pem, client_context
from tests.support.ca_service import CA_NODE, RunningCA, running_ca
from tests.support.credential_service import SERVICE_NODE, running
from tests.support.fake_ca import FakeCA
from tests.support.malformed import CASES, Listener, check
from tests.support.running_manager import start_manager
from tests.support.waiting import PATIENCE_S

pytestmark = pytest.mark.slow


def check_all(listener: Listener, *, can_half_close: bool) -> None:
    """Check every case; AssertionError lists those that went wrong."""
    wrong = []
    for case in CASES:
        if can_half_close or not case.ends:
            try:
                check(listener, case)
            except AssertionError as exc:
                wrong.append(f"{case.name}: {exc}")
    assert not wrong, f"{listener.name}: " + "\n".join(wrong)


def tcp(address: tuple[str, int]) -> socket.socket:
    return socket.create_connection(address, timeout=PATIENCE_S)


def tls(
    address: tuple[str, int], name: str, root_pem: bytes, identity_pem: bytes
) -> Callable[[], socket.socket]:
    context = client_context(root_pem, identity_pem)
    return lambda: context.wrap_socket(tcp(address), server_hostname=name)


def test_the_cas_listeners() -> None:
    with running_ca() as ca:
        status = Listener(
            name="status",
            connect=lambda: tcp(ca.status_address),
            post=b"POST /ocsp HTTP/1.1\r\nContent-Type: application/ocsp-request\r\n",
            body_limit_bytes=16 << 10,
        )
        check_all(status, can_half_close=True)
        front = Listener(
            name="CA",
            connect=tls(ca.address, CA_NODE, ca.root_pem, identity_of_an_agent(ca)),
            post=b"POST /.well-known/est/simplereenroll HTTP/1.1\r\nContent-Type: application/pkcs10\r\n",
            body_limit_bytes=128 << 10,
        )
        check_all(front, can_half_close=False)


def identity_of_an_agent(ca: RunningCA) -> bytes:
    agent = ca.enroll("component-harness")
    return build_identity_pem(agent.key, [agent.certificate, x509.load_pem_x509_certificate(ca.issuing_pem)])


def test_the_credentials_services_listener() -> None:
    with running() as service:
        agent = service.authority.agent("component")
        listener = Listener(
            name="credentials",
            connect=tls(("127.0.0.1", service.port), SERVICE_NODE, service.authority.pem, agent.identity_pem),
            post=(
                b"POST /v1/credentials/billing-aws/operations/sign HTTP/1.1\r\n"
                b"Content-Type: application/json\r\n"
            ),
            body_limit_bytes=1 << 20,
        )
        check_all(listener, can_half_close=False)


def test_the_managers_socket(fake: FakeCA, open_directory: Path) -> None:
    manager = start_manager(fake, open_directory)
    try:
        listener = Listener(
            name="manager",
            connect=lambda: unix(manager.socket),
            post=b"POST /v1/agents HTTP/1.1\r\nContent-Type: application/json\r\n",
            body_limit_bytes=128 << 10,
        )
        check_all(listener, can_half_close=True)
    finally:
        manager.stop()


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory with a short name that other users may enter, unlike pytest's."""
    with tempfile.TemporaryDirectory(prefix="ost-", dir="/tmp") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


@pytest.fixture
def fake() -> Iterator[FakeCA]:
    fake = FakeCA()
    fake.start()
    yield fake
    fake.stop()


def unix(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(PATIENCE_S)
    sock.connect(str(path))
    return sock
