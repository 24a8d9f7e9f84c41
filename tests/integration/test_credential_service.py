"""A credentials service as real processes: its signatures, what policy, ceilings and types refuse, and that
no hostile module stops it. Bad requests and strangers: test_credential_service_refusals.py.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from credsvc.client import SigningClient
from credsvc.client.signing import Signed
from ostiary.edge.home import ServiceHome
from ostiary.errors import BadInput, Busy, Forbidden, InternalFault, OstiaryError
from tests.support.credential_ledger import entry_at, last_denied
from tests.support.credential_service import AWS_SECRET, CommandFailed, Service, running
from tests.support.identities import Agent
from tests.support.patient_client import PatientAdminClient, until_answered
from tests.support.waiting import until

pytestmark = pytest.mark.slow

REQUEST: dict[str, Any] = {
    "method": "GET",
    "url": "https://billing.s3.eu-north-1.amazonaws.com/2026/11?x=1",
    "region": "eu-north-1",
    "service": "s3",
}


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with running() as service:
        yield service


@pytest.fixture
def agent(service: Service) -> Agent:
    return service.authority.agent("component", capabilities=["credential:use"])


@pytest.fixture
def client(service: Service, agent: Agent) -> SigningClient:
    return service.client(agent)


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


def authorization(path: str, stamp: str) -> str:
    """What a GET of that path with the query x=1 is signed with at that time."""
    date = stamp[:8]
    payload = hashlib.sha256(b"").hexdigest()
    names = "host;x-amz-content-sha256;x-amz-date"
    creq = (
        f"GET\n{path}\nx=1\nhost:billing.s3.eu-north-1.amazonaws.com\n"
        f"x-amz-content-sha256:{payload}\nx-amz-date:{stamp}\n\n{names}\n{payload}"
    )
    key = _hmac(f"AWS4{AWS_SECRET}".encode(), date)
    for part in ("eu-north-1", "s3", "aws4_request"):
        key = _hmac(key, part)
    scope = f"{date}/eu-north-1/s3/aws4_request"
    digest = hashlib.sha256(creq.encode()).hexdigest()
    signature = _hmac(key, f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{digest}").hex()
    return f"AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/{scope}, SignedHeaders={names}, Signature={signature}"


def test_the_signature_is_what_hmac_says(client: SigningClient) -> None:
    signed = client.use("billing-aws", "sign", REQUEST)
    expected = authorization("/2026/11", signed.release["header.x-amz-date"])
    assert signed.release["header.authorization"] == expected


def test_each_of_a_batch_is_a_use_of_its_own(service: Service, client: SigningClient, agent: Agent) -> None:
    requests = [
        REQUEST | {"url": f"https://billing.s3.eu-north-1.amazonaws.com/{number}?x=1"}
        for number in range(300)
    ]
    requests[7] = REQUEST | {"region": "us-east-1"}  # outside of the credential's ceiling
    requests[9] = {"n": 1}  # nothing that the module takes
    results = until_answered(lambda: none_busy(client.sign_many("billing-aws", "sign", requests)))
    denied, bad = results[7], results[9]
    assert isinstance(denied, Forbidden)
    assert denied.rule == "ceiling"
    assert isinstance(bad, BadInput)
    entries = set()
    for number, signed in enumerate(results):
        if number not in {7, 9}:
            assert isinstance(signed, Signed), signed
            expected = authorization(f"/{number}", signed.release["header.x-amz-date"])
            assert signed.release["header.authorization"] == expected
            entries.add(signed.entry)
    assert len(entries) == 298
    last = entry_at(service, max(entries))
    assert (last["kind"], last["decision"], last["by"]["serial"]) == ("use", "authorized", agent.serial)
    refused = last_denied(service, agent)
    assert (refused["rule"], refused["target"]) == ("ceiling", "billing-aws/sign")


def none_busy(results: list[Signed | OstiaryError]) -> list[Signed | OstiaryError]:
    """The results of a batch; Busy where any is."""
    for each in results:
        if isinstance(each, Busy):
            raise each
    return results


def test_a_use_is_in_the_ledger_with_what_decided(
    service: Service, client: SigningClient, agent: Agent
) -> None:
    signed = client.use("billing-aws", "sign", REQUEST)
    entry = entry_at(service, signed.entry)
    assert (entry["kind"], entry["decision"], entry["rule"]) == ("use", "authorized", "components-sign-aws")
    assert entry["by"]["serial"] == agent.serial
    assert (entry["credential"], entry["operation"], entry["formula"]) == (
        "billing-aws",
        "sign",
        "s3_headers",
    )
    assert "eu-north-1" not in json.dumps(entry)


def test_an_agent_sees_what_it_may_use(service: Service, client: SigningClient) -> None:
    assert [each["name"] for each in client.credentials()] == ["billing-aws", "grid"]
    stranger = service.client(service.authority.agent("stranger", capabilities=["credential:use"]))
    assert stranger.credentials() == []


@pytest.mark.parametrize(
    ("subsystem", "capabilities", "rule"),
    [
        ("component", (), "use-needs-capability"),
        ("stranger", ("credential:use",), "default-deny"),
    ],
)
def test_who_may_not_is_refused_by_a_named_rule_and_recorded(
    service: Service, subsystem: str, capabilities: tuple[str, ...], rule: str
) -> None:
    agent = service.authority.agent(subsystem, capabilities=capabilities)
    with pytest.raises(Forbidden) as refused:
        service.client(agent).use("billing-aws", "sign", REQUEST)
    assert refused.value.rule == rule
    last = last_denied(service, agent)
    assert (last["decision"], last["rule"], last["by"]["serial"]) == ("denied", rule, agent.serial)
    assert last["target"] == "billing-aws/sign"


def test_a_revoked_agent_is_refused_also_on_open_connections(
    service: Service, client: SigningClient, agent: Agent
) -> None:
    client.use("grid", "sign", {})
    service.ca.revoke(agent.serial)
    until(lambda: _refusal(client) == "certificate-revoked")

    # Each worker follows the feed by itself; then none of them serves.
    def is_refused_by_all() -> bool:
        refusals = []
        for _ in range(8):
            client.close()
            refusals.append(_refusal(client))
        return set(refusals) == {"certificate-revoked"}

    until(is_refused_by_all)
    assert last_denied(service, agent)["rule"] == "certificate-revoked"


def _refusal(client: SigningClient) -> str | None:
    """The rule by which a use is refused; None where it isn't."""
    try:
        client.use("grid", "sign", {})
    except Forbidden as exc:
        return exc.rule
    return None


def test_a_hole_outside_of_its_type_is_named(client: SigningClient) -> None:
    with pytest.raises(BadInput) as refused:
        client.use("billing-aws", "sign", {**REQUEST, "region": "eu\nnorth"})
    assert refused.value.field == "holes.region"


def test_a_hole_outside_of_its_ceiling_is_refused(client: SigningClient) -> None:
    with pytest.raises(Forbidden) as refused:
        client.use("billing-aws", "sign", {**REQUEST, "region": "us-east-1"})
    assert (refused.value.rule, refused.value.field) == ("ceiling", None)


def test_a_time_outside_of_the_clock_is_refused(client: SigningClient) -> None:
    stamp = (dt.datetime.now(dt.UTC) - dt.timedelta(seconds=310)).strftime("%Y%m%dT%H%M%SZ")
    with pytest.raises(BadInput) as refused:
        client.use("billing-aws", "sign", {**REQUEST, "headers": {"X-Amz-Date": stamp}})
    assert refused.value.field == "holes.t"


HOSTILE = {
    "opens-a-file": ('open("/etc/passwd").read()', BadInput),
    "asks-for-import": ('__import__("socket").socket()', InternalFault),
    "imports": ("0\n    import socket", InternalFault),
    "never-ends": ("0\n    while True:\n        pass", Busy),
    "eats-memory": ('"x" * 10**12', OstiaryError),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_module_is_stopped_and_others_are_served(
    service: Service, client: SigningClient, tmp_path: Path, name: str
) -> None:
    code, error = HOSTILE[name]
    credential = _put_hostile(service, tmp_path, name, code)
    outcomes: list[BaseException | None] = []

    def attack() -> None:
        try:
            agent = service.authority.agent("component", capabilities=["credential:use"])
            service.client(agent, is_patient=False).use(
                credential, "sign", {"method": "GET", "url": "https://x.example/"}
            )
            outcomes.append(None)
        except OstiaryError as exc:
            outcomes.append(exc)

    attacker = threading.Thread(target=attack)
    attacker.start()
    while attacker.is_alive():
        assert client.use("billing-aws", "sign", REQUEST).formula == "s3_headers"
    attacker.join()
    assert isinstance(outcomes[0], error)


def _put_hostile(service: Service, tmp_path: Path, name: str, code: str) -> str:
    """Approve a module whose code is bad, as a careless approver would: the command line would not even
    propose some.
    """
    folder = tmp_path / f"hostile-{name}"
    service.command("module", "new", str(folder))
    source = f"def sign(request, credential, clock):\n    x = {code}\n    return x\n"
    admin = PatientAdminClient(ServiceHome(service.home / "credsvc").operator_socket, service="credsvc")
    admin.call("module.propose", manifest=(folder / "manifest.toml").read_bytes(), source=source.encode())
    service.command(
        *("module", "approve", folder.name, "--key", str(service.folder / "approver")),
        *("--passphrase", "fd:{}"),
        secrets=["correct horse battery staple"],
    )
    service.put(folder.name, folder.name, fields={"key_id": "x"}, secret=("secret_key", "a" * 32))
    admin.call(
        "policy.set",
        policy=admin.call("policy.show")["policy"]
        + f'\n@id("{folder.name}") permit(principal, action == Action::"{folder.name}/sign", resource);',
    )
    return folder.name


def test_a_source_that_is_not_in_the_language_is_not_proposed(service: Service, tmp_path: Path) -> None:
    folder = tmp_path / "importer"
    service.command("module", "new", str(folder))
    (folder / "module.py").write_text("import os\n")
    with pytest.raises(CommandFailed, match="source is refused"):
        service.command("module", "load", str(folder))


def test_a_rotated_credential_signs_with_the_new_secret(service: Service, client: SigningClient) -> None:
    service.put("rotating", "gogrid", fields={"api_key": "foo"}, secret=("shared_secret", "one"))
    client.use("rotating", "sign", {})
    service.command("credential", "rotate", "rotating", "--secret", "shared_secret=fd:{}", secrets=["two"])
    # At once: what the front knew is stale, and it reads again.
    before = int(time.time())
    released = client.use("rotating", "sign", {}).release["query.sig"]
    candidates = {
        hashlib.md5(f"footwo{epoch}".encode()).hexdigest()  # noqa: S324 - GoGrid's own
        for epoch in range(before - 1, int(time.time()) + 2)
    }
    assert released in candidates


def test_disabled_and_deleted_credentials_are_refused(service: Service, client: SigningClient) -> None:
    service.put("ending", "gogrid", fields={"api_key": "foo"}, secret=("shared_secret", "one"))
    client.use("ending", "sign", {})
    for verb, rule in (("disable", "credential-disabled"), ("delete", "credential-unknown")):
        service.command("credential", verb, "ending")
        with pytest.raises(Forbidden) as refused:
            client.use("ending", "sign", {})
        assert refused.value.rule == rule


def test_the_log_tells_no_secret(service: Service) -> None:
    for secret in (AWS_SECRET, "correct horse", "PRIVATE KEY"):
        assert secret not in service.log
