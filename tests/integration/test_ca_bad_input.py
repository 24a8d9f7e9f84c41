"""Bad input from the wire: a problem document that names the mistake, a line in the log, and no change."""

from __future__ import annotations

import base64
import http.client
import json
from dataclasses import dataclass
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from ostiary.edge.home import ServiceHome
from ostiary.edge.http_client import HTTPClient, tcp_connector
from ostiary.errors import Unauthenticated
from tests.support.ca_service import CA_NODE, NODE, Agent, RunningCA, csr_of, new_key
from tests.support.identities import Authority
from tests.support.patient_client import PatientAdminClient
from tests.support.pki import Root
from tests.support.waiting import PATIENCE_S

pytestmark = pytest.mark.slow
ENROLL = "/.well-known/est/simpleenroll"
RENEW = "/.well-known/est/simplereenroll"


@dataclass(frozen=True, kw_only=True)
class Site:
    """A CA with a manager and a controller on a node."""

    ca: RunningCA
    manager: Agent
    controller: Agent


@pytest.fixture(scope="module")
def site(shared_ca: RunningCA) -> Site:
    manager = shared_ca.enroll("certificate-manager", capabilities=("enroll:node",))
    controller = shared_ca.enroll("node-controller", capabilities=("spawn:component-harness",))
    return Site(ca=shared_ca, manager=manager, controller=controller)


def ask(
    ca: RunningCA, agent: Agent | None, method: str, path: str, body: bytes, headers: dict[str, str]
) -> tuple[int, str, dict[str, Any]]:
    """One raw request; status, content type, document."""
    client = ca.client(agent)
    sock = client._connect()
    connection = http.client.HTTPConnection(CA_NODE)
    connection.sock = sock
    try:
        connection.request(method, path, body=body, headers=headers)
        response = connection.getresponse()
        return response.status, response.headers["Content-Type"], json.loads(response.read())
    finally:
        connection.close()


def signed_with_sha1(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A sound request whose AlgorithmIdentifier was made ecdsa-with-SHA1."""
    return csr_of(key).replace(bytes.fromhex("06082a8648ce3d040302"), bytes.fromhex("06072a8648ce3d0401"))


def small_rsa() -> bytes:
    key = rsa.generate_private_key(65537, 1024)  # noqa: S505 - to be refused
    return (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .sign(key, hashes.SHA256())
        .public_bytes(Encoding.DER)
    )


def tampered() -> bytes:
    csr = bytearray(csr_of(new_key()))
    csr[-1] ^= 1
    return bytes(csr)


def naming(attribute: x509.ObjectIdentifier, value: str) -> bytes:
    subject = x509.Name([x509.NameAttribute(attribute, value)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    return builder.sign(new_key(), hashes.SHA256()).public_bytes(Encoding.DER)


CSRS = {
    "empty": (b" ", 400, "csr"),
    "no base64": (b"!!!!", 400, "csr"),
    "base64 of nothing known": (base64.b64encode(b"hello"), 400, "csr"),
    "cut short": (base64.b64encode(csr_of(new_key())[:-9]), 400, "csr"),
    "PEM": (b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END", 400, "csr"),
    "signature does not verify": (base64.b64encode(tampered()), 400, "csr"),
    "SHA-1": (base64.b64encode(signed_with_sha1(new_key())), 400, "csr"),
    "RSA of 1024 bits": (base64.b64encode(small_rsa()), 400, "public_key"),
    "another node": (
        base64.b64encode(naming(x509.NameOID.ORGANIZATIONAL_UNIT_NAME, "n9.nodes.shop.example")),
        400,
        "subject.OU",
    ),
    "another sub-system": (
        base64.b64encode(naming(x509.NameOID.ORGANIZATION_NAME, "certificate-manager")),
        400,
        "subject.O",
    ),
    "too large": (b"A" * 40_000, 413, None),
}


@pytest.mark.parametrize("name", list(CSRS))
def test_a_bad_request_for_a_certificate(site: Site, name: str) -> None:
    body, status, field = CSRS[name]
    made = site.ca.token("component-harness")
    headers = {"Authorization": basic(made["id"], made["token"]), "Content-Type": "application/pkcs10"}
    check_refused(site, None, ("POST", ENROLL, body, headers), status, field)
    # The token is still good.
    site.ca.redeem(made["token"], new_key())


AUTHORIZATIONS = {
    "missing": {},
    "no Basic": {"Authorization": "Bearer abc"},
    "no base64": {"Authorization": "Basic ???"},
    "no token": {"Authorization": "Basic " + base64.b64encode(b"me:password").decode()},
}


@pytest.mark.parametrize("name", list(AUTHORIZATIONS))
def test_a_bad_authorization(site: Site, name: str) -> None:
    headers = AUTHORIZATIONS[name] | {"Content-Type": "application/pkcs10"}
    body = base64.b64encode(csr_of(new_key()))
    check_refused(site, None, ("POST", ENROLL, body, headers), 401, "authorization")


GOOD_ASK = {
    "subsystem": "component-harness",
    "capabilities": [],
    "endpoints": [],
    "spawner": "00",
    "csr": base64.b64encode(csr_of(new_key())).decode(),
    "agent": "66666666-6666-4666-8666-666666666666",
}
ASKS: dict[str, tuple[bytes, int, str | None]] = {
    "broken JSON": (b'{"subsystem": ', 400, None),
    "no UTF-8": (b'"\xff"', 400, None),
    "deep": (b"[" * 20_000, 400, None),
    "not an object": (b"[]", 400, None),
    "unknown member": (json.dumps(GOOD_ASK | {"admin": True}).encode(), 400, "admin"),
    "missing member": (json.dumps({"subsystem": "component-harness"}).encode(), 400, "capabilities"),
    "wrong type": (json.dumps(GOOD_ASK | {"capabilities": "all"}).encode(), 400, "capabilities"),
    "wrong type inside": (json.dumps(GOOD_ASK | {"capabilities": [1]}).encode(), 400, "capabilities[0]"),
    "wildcard": (json.dumps(GOOD_ASK | {"capabilities": ["*:*"]}).encode(), 400, "capabilities"),
    "bad name": (json.dumps(GOOD_ASK | {"subsystem": "Component\n"}).encode(), 400, "subsystem"),
    "bad agent": (json.dumps(GOOD_ASK | {"agent": "../../etc"}).encode(), 400, "agent"),
    "bad serial": (json.dumps(GOOD_ASK | {"spawner": "xyz"}).encode(), 400, "serial_number"),
    "bad request": (json.dumps(GOOD_ASK | {"csr": "AAAA"}).encode(), 400, "csr"),
    "oversized": (b'"' + b"a" * 70_000 + b'"', 413, None),
}


@pytest.mark.parametrize("name", list(ASKS))
def test_a_bad_ask_for_an_agent(site: Site, name: str) -> None:
    body, status, field = ASKS[name]
    headers = {"Content-Type": "application/json"}
    check_refused(site, site.manager, ("POST", "/v1/agents", body, headers), status, field)


OTHERS = {
    "wrong media type": ("POST", "/v1/agents", b"x", {"Content-Type": "text/plain"}, 415, None),
    "no such path": ("GET", "/v1/nothing", b"", {}, 404, None),
    "wrong method": ("DELETE", "/v1/whoami", b"", {}, 405, None),
    "bad serial in the path": ("POST", "/v1/certificates/ZZ/prove", b"{}", {}, 400, "serial_number"),
    "bad number": ("GET", "/v1/revocations?since=-5", b"", {}, 400, "since"),
    "no tile": ("GET", "/v1/ledger/tile/0/x", b"", {}, 400, "path"),
    "tile of the future": ("GET", "/v1/ledger/tile/0/999", b"", {}, 404, None),
    "bad reason": (
        "POST",
        "/v1/certificates/0a/revoke",
        b'{"reason": "because"}',
        {"Content-Type": "application/json"},
        400,
        "reason",
    ),
}


@pytest.mark.parametrize("name", list(OTHERS))
def test_other_bad_requests(site: Site, name: str) -> None:
    method, path, body, headers, status, field = OTHERS[name]
    check_refused(site, site.manager, (method, path, body, headers), status, field)


def check_refused(
    site: Site,
    agent: Agent | None,
    request: tuple[str, str, bytes, dict[str, str]],
    status: int,
    field: str | None,
) -> None:
    """A problem document of that status and field; logged; no certificate more, no entry in the ledger."""
    before = state(site.ca)
    method, path, body, headers = request
    answered, content_type, problem = ask(site.ca, agent, method, path, body, headers)
    assert (answered, problem.get("field")) == (status, field), problem
    assert content_type == "application/problem+json"
    assert problem["status"] == status
    assert problem["type"].startswith("urn:ostiary:problem:")
    assert problem.get("detail") or status in {404, 405}
    assert state(site.ca) == before
    logged = [line for line in site.ca.log().splitlines() if '"request-refused"' in line]
    assert any(f'"status": {status}' in line and path.partition("?")[0] in line for line in logged[-6:])


def state(ca: RunningCA) -> tuple[Any, ...]:
    """How many certificates there are, by state."""
    admin = PatientAdminClient(ServiceHome(ca.home / "ca").operator_socket, service="ca")
    rows = admin.call("certificate.list")
    return tuple(sorted((row["serial_number"], row["status"]) for row in rows))


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def test_a_token_of_another_node(site: Site) -> None:
    """The token says which node; a request that asks for another one is refused, and the token stays good."""
    made = site.ca.token("component-harness", node="n2.nodes.shop.example")
    csr = base64.b64encode(naming(x509.NameOID.ORGANIZATIONAL_UNIT_NAME, NODE))
    headers = {"Authorization": basic(made["id"], made["token"]), "Content-Type": "application/pkcs10"}
    check_refused(site, None, ("POST", ENROLL, csr, headers), 400, "subject.OU")


@pytest.mark.parametrize("names", ["an agent's", "a host's"])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/whoami"),
        ("POST", RENEW),
        ("POST", "/v1/agents"),
        ("GET", "/.well-known/est/cacerts"),
        ("GET", "/healthz"),
    ],
)
def test_a_client_certificate_of_a_foreign_ca(site: Site, method: str, path: str, names: str) -> None:
    """Refused whatever it asks for, and however well its names read."""
    if names == "a host's":
        leaf = Root().leaf("agent.n1.nodes.shop.example")
        foreign = Agent(key=leaf.key, certificate=leaf.certificate)
    else:
        manager = Authority().agent("certificate-manager", capabilities=["enroll:node"])
        foreign = Agent(key=manager.key, certificate=manager.certificate)
    check_refused(site, foreign, (method, path, b"", {}), 401, "certificate")


def test_a_client_certificate_of_a_foreign_ca_is_told_what_is_wrong_with_it(site: Site) -> None:
    leaf = Root().leaf("agent.n1.nodes.shop.example")
    client = site.ca.client(Agent(key=leaf.key, certificate=leaf.certificate))
    with pytest.raises(
        Unauthenticated, match="client certificate: it was not issued under this service's root"
    ):
        client.request("GET", "/v1/whoami")


def test_no_client_certificate_where_one_is_wanted(site: Site) -> None:
    with site.ca.client() as client, pytest.raises(Unauthenticated) as refused:
        client.request("GET", "/v1/whoami")
    assert refused.value.field == "certificate"


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [("POST", "/ocsp", b"rubbish"), ("GET", "/ocsp/!!!", None), ("GET", "/ocsp/" + "A" * 3000, None)],
)
def test_a_bad_ocsp_request_is_malformed(site: Site, method: str, path: str, body: bytes | None) -> None:
    connector = tcp_connector(site.ca.status_address, timeout_s=PATIENCE_S)
    with HTTPClient(connector, host="status") as client:
        content_type = "application/ocsp-request" if body else None
        response = client.request(method, path, body=body, content_type=content_type)
    assert response.headers["content-type"] == "application/ocsp-response"
    assert ocsp.load_der_ocsp_response(response.body).response_status.value == 1
