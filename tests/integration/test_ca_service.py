"""The whole CA as processes: issue, renew, spawn, prove, revoke. openssl checks the results independently."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from ca.front.certificates_api import MAX_WAIT_S
from ostiary.certificate import serial_hex
from ostiary.edge.http_client import HTTPClient, tls_connector
from ostiary.edge.tls import build_identity_pem, client_context, server_context
from ostiary.errors import Forbidden, OstiaryError
from ostiary.identity import identity_of
from ostiary.ledger.checkpoint import read_checkpoint
from ostiary.ledger.tiles import decode_bundle
from tests.support.ca_service import CA_NODE, NODE, Agent, RunningCA, new_key
from tests.support.need import require_tool
from tests.support.waiting import PATIENCE_S, until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def ca(shared_ca: RunningCA) -> RunningCA:
    return shared_ca


def openssl(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [require_tool("openssl"), *arguments], capture_output=True, text=True, check=False, timeout=PATIENCE_S
    )


def whoami(client: HTTPClient) -> dict[str, Any]:
    return client.call("GET", "/v1/whoami", type_=dict[str, Any])


def test_openssl_shows_every_field_of_an_agents_certificate(ca: RunningCA, tmp_path: Path) -> None:
    agent_id = "5b1f1a3e-7a0c-4c1d-9b55-0c3b9f3f2a10"
    url = f"https+tcp://{agent_id}.{NODE}:8443"
    agent = ca.enroll(
        "component-harness",
        capabilities=("credential:use", "spawn:component"),
        agent=agent_id,
        endpoint=url,
    )
    path = tmp_path / "agent.pem"
    path.write_bytes(agent.pem)
    text = openssl("x509", "-in", str(path), "-noout", "-text").stdout
    status = f"http://127.0.0.1:{ca.status_address[1]}"
    for field in (
        f"Subject: DC = example, DC = shop, O = component-harness, OU = {NODE}, UID = {agent_id}",
        f"URI:{url}, DNS:{agent_id}.{NODE}",
        "X509v3 Basic Constraints: critical",
        "CA:FALSE",
        "X509v3 Key Usage: critical",
        "Digital Signature",
        "TLS Web Client Authentication, TLS Web Server Authentication",
        f"OCSP - URI:{status}/ocsp",
        f"CA Issuers - URI:{status}/ca/issuing.cer",
        f"URI:{status}/crl/1.crl",
        "X509v3 Subject Key Identifier",
        "X509v3 Authority Key Identifier",
        "1.2.840.113556.1.8000.2554.22024.65458.11139.17229.34446.6435669.4062987",
        "credential:use",
        "spawn:component",
    ):
        assert field in text, field


def _verify(ca: RunningCA, agent: Agent, directory: Path) -> subprocess.CompletedProcess[str]:
    """`openssl verify -crl_check_all` against what the status instance serves right now."""
    leaf, crls = directory / "leaf.pem", directory / "crls.pem"
    leaf.write_bytes(agent.pem)
    crls.write_bytes(ca.status("/crl/bundle.pem").body)
    return openssl(
        *("verify", "-x509_strict", "-crl_check_all", "-CRLfile", str(crls)),
        *("-CAfile", str(ca.public / "root.pem"), "-untrusted", str(ca.public / "issuing.pem"), str(leaf)),
    )


def _ask_ocsp(ca: RunningCA, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`openssl ocsp`, again while the responder says tryLater (RFC 6960 section 2.3), as a client would."""
    url = f"http://127.0.0.1:{ca.status_address[1]}/ocsp"
    issuing, root = str(ca.public / "issuing.pem"), str(ca.public / "root.pem")

    def ask() -> subprocess.CompletedProcess[str] | None:
        done = openssl("ocsp", "-issuer", issuing, *arguments, "-url", url, "-CAfile", root)
        return None if "trylater" in done.stdout + done.stderr else done

    answered = until(ask, "an answer of the responder")
    if answered is None:
        raise AssertionError("`until` returns what is true")
    return answered


def _ocsp(ca: RunningCA, agent: Agent, directory: Path, *options: str) -> str:
    leaf = directory / "leaf.pem"
    leaf.write_bytes(agent.pem)
    done = _ask_ocsp(ca, "-cert", str(leaf), *options, "-VAfile", str(ca.public / "issuing.pem"))
    return done.stdout + done.stderr


def test_a_revoked_certificate_is_refused_by_openssl_ocsp_and_the_front(
    ca: RunningCA, tmp_path: Path
) -> None:
    manager = ca.enroll("certificate-manager", capabilities=("enroll:node",))
    agent = ca.enroll("component-harness", capabilities=("credential:use",))
    client = ca.client(agent)
    assert whoami(client)["status"] == "active"
    until(lambda: _verify(ca, agent, tmp_path).returncode == 0, "accepted by openssl verify")
    assert "good" in _ocsp(ca, agent, tmp_path)
    assert "good" in _ocsp(ca, agent, tmp_path, "-no_nonce")

    ca.revoke(manager, agent.serial, "keyCompromise")
    until(lambda: "revoked" in _ocsp(ca, agent, tmp_path, "-no_nonce"), "revoked in OCSP")
    assert "keyCompromise" in _ocsp(ca, agent, tmp_path)
    with pytest.raises(OstiaryError):  # on the connection that was open before
        whoami(client)
    assert _refusal_of_new_connections(ca, agent).rule == "certificate-revoked"
    until(lambda: "certificate revoked" in _verify(ca, agent, tmp_path).stderr, "revoked in the CRL")


def test_one_request_asks_about_several_certificates(ca: RunningCA, tmp_path: Path) -> None:
    agents = [ca.enroll("component-harness") for _ in range(2)]
    ca.revoke(agents[1], agents[1].serial)
    paths = [tmp_path / f"{number}.pem" for number in range(2)]
    for path, agent in zip(paths, agents, strict=True):
        path.write_bytes(agent.pem)
    done = _ask_ocsp(ca, "-cert", str(paths[0]), "-cert", str(paths[1]))
    assert "Response verify OK" in done.stderr
    assert f"{paths[0]}: good" in done.stdout
    assert f"{paths[1]}: revoked" in done.stdout


def _refusal_of_new_connections(ca: RunningCA, agent: Agent) -> Forbidden:
    """Once every worker has heard of it; one that hears only now cuts off what it is about to refuse."""
    with pytest.raises(Forbidden) as refused:
        whoami(ca.client(agent))
    return refused.value


def test_renewal_and_its_first_use(ca: RunningCA) -> None:
    agent = ca.enroll("component-harness", capabilities=("credential:use",))
    with pytest.raises(Forbidden) as early:
        ca.renew(agent)
    assert early.value.rule == "renewal-early"
    ca.age(agent.serial)
    renewed = ca.renew(agent)
    assert identity_of(renewed.certificate) == identity_of(agent.certificate)
    assert renewed.key.public_key() != agent.key.public_key()
    assert whoami(ca.client(agent))["status"] == "active"
    assert whoami(ca.client(renewed))["status"] == "active"
    with pytest.raises(Forbidden) as refused:
        whoami(ca.client(agent))
    assert refused.value.rule == "certificate-superseded"


def test_a_manager_spawns_within_what_the_spawner_may(ca: RunningCA) -> None:
    manager = ca.enroll("certificate-manager", capabilities=("enroll:node",))
    controller = ca.enroll("node-controller", capabilities=("spawn:component-harness",))
    child = ca.spawn(manager, controller)
    assert identity_of(child.certificate).capabilities == {"credential:use"}
    assert whoami(ca.client(child))["status"] == "active"
    with pytest.raises(Forbidden) as refused:
        ca.spawn(manager, child)
    assert refused.value.rule == "spawn-not-granted"


@contextlib.contextmanager
def _showing(agent: Agent, ca: RunningCA, port: int) -> Iterator[None]:
    """A manager's listener that shows one certificate."""
    issuing = x509.load_pem_x509_certificate(ca.issuing_pem)
    context = server_context(build_identity_pem(agent.key, [agent.certificate, issuing]))
    with socket.create_server(("127.0.0.1", port)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    sock, _ = listener.accept()
                    with (
                        contextlib.suppress(ssl.SSLError, OSError),
                        context.wrap_socket(sock, server_side=True),
                    ):
                        pass

        thread = threading.Thread(target=serve)
        thread.start()
        yield
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_a_bootstrap_certificate_is_proven_by_the_dial_back_and_then_renews_with_capabilities(
    ca: RunningCA,
) -> None:
    node = "n7.nodes.shop.example"
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    document = ca.admin("ca", "bootstrap", "--node", node, "--address", f"127.0.0.1:{port}")
    pending = ca.redeem(document["tokens"]["certificate-manager"]["token"], new_key())
    path = f"/v1/certificates/{pending.serial}/prove"
    client = ca.client(pending)
    assert whoami(client)["status"] == "pending"
    with pytest.raises(Forbidden) as unproven:
        client.call("POST", path, {}, type_=dict[str, Any])
    assert unproven.value.rule == "dial-back"
    with _showing(ca.enroll("component-harness"), ca, port), pytest.raises(Forbidden) as foreign:
        client.call("POST", path, {}, type_=dict[str, Any])
    assert "other than the pending one" in foreign.value.message
    with _showing(pending, ca, port):
        assert client.call("POST", path, {}, type_=dict[str, Any])["status"] == "active"
    renewed = ca.renew(pending)
    assert identity_of(renewed.certificate).capabilities == {"enroll:node"}


def test_the_feed_wakes_who_waits(ca: RunningCA) -> None:
    agent, watcher = ca.enroll("component-harness"), ca.enroll("component-harness")
    since = ca.client(watcher).call("GET", "/v1/revocations", type_=dict[str, Any])["next"]
    told: list[str] = []

    def wait() -> None:
        client, after = ca.client(watcher), since
        # A worker may still be hearing of an earlier revocation when it says where the feed ends.
        while agent.serial not in told:
            path = f"/v1/revocations?since={after}&wait={MAX_WAIT_S}"
            answer = client.call("GET", path, type_=dict[str, Any])
            told.extend(row["serial_number"] for row in answer["revoked"])
            after = answer["next"]

    waiter = threading.Thread(target=wait)
    waiter.start()
    time.sleep(0.3)
    ca.revoke(agent, agent.serial)
    waiter.join()
    assert agent.serial in told


# --- TLS ---


def _greet(ca: RunningCA, *options: str) -> str:
    """What openssl says of a handshake with the front, in which it asks for the certificate's status."""
    host, port = ca.address
    command = ["s_client", "-connect", f"{host}:{port}", "-servername", CA_NODE, "-status", *options]
    done = subprocess.run(
        [require_tool("openssl"), *command, "-CAfile", str(ca.public / "root.pem"), "-verify_return_error"],
        input="",
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert "Verify return code: 0 (ok)" in done.stdout, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_the_fronts_own_certificate_comes_with_its_status(ca: RunningCA, version: str) -> None:
    # A worker that started before the responder answered asks again.
    said = until(
        lambda: said if "Cert Status: good" in (said := _greet(ca, version)) else "", "a stapled response"
    )
    assert "OCSP Response Status: successful" in said
    leaf = x509.load_pem_x509_certificate(said.partition("Server certificate\n")[2].encode())
    assert f"Serial Number: {serial_hex(leaf.serial_number).upper()}" in said


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_agents_are_known_over_tls_1_2_and_1_3(ca: RunningCA, version: ssl.TLSVersion) -> None:
    agent = ca.enroll("component-harness")
    issuing = x509.load_pem_x509_certificate(ca.issuing_pem)
    context = client_context(ca.root_pem, build_identity_pem(agent.key, [agent.certificate, issuing]))
    context.minimum_version = context.maximum_version = version
    connector = tls_connector(ca.address, server_name=CA_NODE, context=lambda: context, timeout_s=PATIENCE_S)
    with HTTPClient(connector, host=CA_NODE) as client:
        assert whoami(client)["serial_number"] == agent.serial


def test_the_ledger_is_read_over_the_wire_and_shows_what_was_done(ca: RunningCA) -> None:
    reader = ca.enroll("auditor", capabilities=("ledger:read",))
    stranger = ca.enroll("component-harness")
    client = ca.client(reader)
    note = client.request("GET", "/v1/ledger/checkpoint").body
    size = read_checkpoint(note).size
    width = f".p/{size}" if size < 256 else ""
    bundle = client.request("GET", f"/v1/ledger/entries/000{width}").body
    entries = decode_bundle(bundle, width=min(size, 256))
    assert len(entries) == min(size, 256)
    kinds = {json.loads(entry)["kind"] for entry in entries}
    assert {"front-certificate", "responder-certificate", "mint-token", "redeem"} <= kinds
    tile = client.request("GET", f"/v1/ledger/tile/0/000{width}").body
    assert len(tile) == 32 * min(size, 256)
    with pytest.raises(Forbidden) as refused:
        ca.client(stranger).request("GET", f"/v1/ledger/entries/000{width}")
    assert refused.value.rule == "capability-ledger:read"


def test_certificates_above_a_leaf_have_their_media_types(ca: RunningCA) -> None:
    for path, media_type in (
        ("/ca/issuing.cer", "application/pkix-cert"),
        ("/ca/root.cer", "application/pkix-cert"),
        ("/ca/root.crl", "application/pkix-crl"),
        ("/crl/complete.crl", "application/pkix-crl"),
    ):
        assert ca.status(path).headers["content-type"] == media_type
    issuing = x509.load_der_x509_certificate(ca.status("/ca/issuing.cer").body)
    assert issuing.public_bytes(Encoding.PEM) == ca.issuing_pem
