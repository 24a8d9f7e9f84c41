"""The dial-back believes one certificate at one address, and dials no address that is no node's."""

from __future__ import annotations

import asyncio
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
def answering(leaf: Leaf, context: ssl.SSLContext | None = None) -> Iterator[str]:
    """A TLS server on loopback that shows `leaf`; its address."""
    context = context or server_context(leaf.identity_pem)
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


def prove(address: str | None, *, host: str, expected_der: bytes) -> None:
    asyncio.run(prove_by_dial(address, host=host, expected_der=expected_der))


@pytest.mark.usefixtures("patience")
def test_the_pending_certificate_itself_is_believed() -> None:
    leaf = ROOT.leaf(HOST)
    with answering(leaf) as address:
        prove(address, host=HOST, expected_der=leaf.der)


@pytest.mark.usefixtures("patience")
def test_another_certificate_of_the_same_name_is_not() -> None:
    with (
        answering(ROOT.leaf(HOST)) as address,
        pytest.raises(Forbidden, match="a certificate other than the pending one"),
    ):
        prove(address, host=HOST, expected_der=ROOT.leaf(HOST).der)


@pytest.mark.parametrize(
    "address",
    ["169.254.169.254:80", "[fe80::1]:443", "[fd00:ec2::254]:443", "100.100.100.200:80", "0.0.0.0:443"],
)
def test_reserved_addresses_are_never_dialled(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dial_back, "_shown_certificate", lambda *_: pytest.fail("dialled"))
    with pytest.raises(BadInput, match="cannot be the address of a node"):
        prove(address, host=HOST, expected_der=b"")


def test_without_an_address_there_is_nothing_to_dial() -> None:
    with pytest.raises(Forbidden, match="confirm the node by hand"):
        prove(None, host=HOST, expected_der=b"")


def test_nobody_there_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(Forbidden, match="did not answer"):
        prove(f"127.0.0.1:{port}", host=HOST, expected_der=b"x")


def _hang_up(listener: socket.socket) -> None:
    listener.accept()[0].close()


@pytest.mark.usefixtures("patience")
def test_a_peer_that_hangs_up_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        hanging_up = threading.Thread(target=_hang_up, args=(listener,))
        hanging_up.start()
        with pytest.raises(Forbidden, match=r"did not (answer|complete)"):
            prove(f"127.0.0.1:{listener.getsockname()[1]}", host=HOST, expected_der=b"x")
        hanging_up.join()


@pytest.mark.usefixtures("patience")
def test_tls_1_2_proves_nothing() -> None:
    leaf = ROOT.leaf(HOST)
    context = server_context(leaf.identity_pem)
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    with (
        answering(leaf, context) as address,
        pytest.raises(Forbidden, match=r"did not complete a TLS 1\.3 handshake"),
    ):
        prove(address, host=HOST, expected_der=leaf.der)


def test_a_silent_peer_is_left_in_time_and_its_connection_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dial_back, "DIAL_S", RUNS_OUT_S)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with pytest.raises(Forbidden, match="did not answer within"):
            prove(f"127.0.0.1:{listener.getsockname()[1]}", host=HOST, expected_der=b"x")
        sock, _ = listener.accept()
        with sock, contextlib.suppress(ConnectionResetError):
            sock.settimeout(PATIENCE_S)
            while sock.recv(4096):
                pass


def test_the_loop_goes_on_while_a_peer_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dial_back, "DIAL_S", RUNS_OUT_S)

    async def story(address: str) -> int:
        turns, dialling = 0, asyncio.create_task(prove_by_dial(address, host=HOST, expected_der=b"x"))
        while not dialling.done():
            turns += 1
            await asyncio.sleep(0.001)
        with pytest.raises(Forbidden, match="did not answer within"):
            await dialling
        return turns

    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert asyncio.run(story(f"127.0.0.1:{listener.getsockname()[1]}")) > 2


def test_only_so_many_dial_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    dialler = Dialler(max_at_once=1)

    async def dial(*_args: object, **_kwargs: object) -> None:
        await asyncio.sleep(0)

    async def story() -> list[BaseException | None]:
        dials = (dialler.prove("127.0.0.1:1", HOST, b"") for _ in range(3))
        return await asyncio.gather(*dials, return_exceptions=True)

    monkeypatch.setattr(dial_back, "prove_by_dial", dial)
    for _ in range(2):
        done, *refused = asyncio.run(story())
        assert done is None
        assert [isinstance(error, Busy) and error.retry_after_s for error in refused] == [3, 3]
