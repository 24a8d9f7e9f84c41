"""The dial-back believes one certificate at one address, and dials no address that is no node's."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator

import pytest

from ca.front import dial_back
from ca.front.dial_back import Dialler, prove_by_dial
from ostiary.edge.tls import server_context
from ostiary.errors import BadInput, Busy, Forbidden
from tests.support.pki import Leaf, Root
from tests.support.waiting import PATIENCE_S, RUNS_OUT_S

ROOT = Root()
HOST = "agent.n1.nodes.shop.example"


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dial_back, "DIAL_S", PATIENCE_S)


@contextlib.contextmanager
def answering(leaf: Leaf) -> Iterator[str]:
    """A TLS server on loopback that shows `leaf`; its address."""
    context = server_context(leaf.identity_pem)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                sock, _ = listener.accept()
                with contextlib.suppress(ssl.SSLError, OSError), context.wrap_socket(sock, server_side=True):
                    pass

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.mark.usefixtures("patience")
def test_the_pending_certificate_itself_is_believed() -> None:
    leaf = ROOT.leaf(HOST)
    with answering(leaf) as address:
        prove_by_dial(address, host=HOST, expected_der=leaf.der)


@pytest.mark.usefixtures("patience")
def test_another_certificate_of_the_same_name_is_not() -> None:
    with (
        answering(ROOT.leaf(HOST)) as address,
        pytest.raises(Forbidden, match="a certificate other than the pending one"),
    ):
        prove_by_dial(address, host=HOST, expected_der=ROOT.leaf(HOST).der)


@pytest.mark.parametrize(
    "address",
    ["169.254.169.254:80", "[fe80::1]:443", "[fd00:ec2::254]:443", "100.100.100.200:80", "0.0.0.0:443"],
)
def test_reserved_addresses_are_never_dialled(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dial_back, "_shown_certificate", lambda *_: pytest.fail("dialled"))
    with pytest.raises(BadInput, match="cannot be the address of a node"):
        prove_by_dial(address, host=HOST, expected_der=b"")


def test_without_an_address_there_is_nothing_to_dial() -> None:
    with pytest.raises(Forbidden, match="confirm the node by hand"):
        prove_by_dial(None, host=HOST, expected_der=b"")


def test_nobody_there_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(Forbidden, match="did not answer"):
        prove_by_dial(f"127.0.0.1:{port}", host=HOST, expected_der=b"x")


def test_a_silent_peer_is_left_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dial_back, "DIAL_S", RUNS_OUT_S)
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        pytest.raises(Forbidden, match="did not answer within"),
    ):
        prove_by_dial(f"127.0.0.1:{listener.getsockname()[1]}", host=HOST, expected_der=b"x")


def test_only_so_many_dial_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    dialler = Dialler(max_at_once=1)
    refused: list[Busy] = []

    def during(*_args: object, **_kwargs: object) -> None:
        with pytest.raises(Busy) as caught:
            dialler.prove("127.0.0.1:1", HOST, b"")
        refused.append(caught.value)

    monkeypatch.setattr(dial_back, "prove_by_dial", during)
    dialler.prove("127.0.0.1:1", HOST, b"")
    dialler.prove("127.0.0.1:1", HOST, b"")
    assert [error.retry_after_s for error in refused] == [3, 3]
