"""The running service reproduces AWS's and GoGrid's published vectors, over mTLS.

The service's processes live at the vectors' moment (clock/sitecustomize.py), so that the keyholder's own
clock agrees with them.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from credsvc.client import SigningClient
from credsvc.formula.selftest import Vector, VectorFile, parse_vectors
from tests.support.credential_service import LIBRARY, Service, made
from tests.support.repository import ROOT

pytestmark = pytest.mark.slow

CLOCK = ROOT / "tests" / "support" / "clock"
# In order of their moments, because a ledger's time does not go back.
FILES = [
    ("gogrid", "jclouds.json"),
    ("aws-sigv4", "s3-documentation.json"),
    ("aws-sigv4", "aws4-testsuite.json"),
]


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with made() as service:
        yield service


@pytest.mark.parametrize(("module", "name"), FILES)
def test_vectors(service: Service, module: str, name: str) -> None:
    vectors = parse_vectors((LIBRARY / module / "vectors" / name).read_bytes())
    (now,) = {case.now for case in vectors.cases}
    service.stop()
    service.environment.update({"PYTHONPATH": f"{CLOCK}:{LIBRARY.parent}", "OSTIARY_TEST_CLOCK_S": str(now)})
    service.start()
    for wanted in {"gogrid", module}:
        if not any(each["name"] == wanted for each in service.command("module", "list")):
            service.approve(wanted)
    if module == "aws-sigv4":
        service.set_policy()
    else:
        service.set_policy(
            '@id("grid") permit(principal, action == Action::"gogrid/sign", resource in Label::"billing");'
        )
    agent = service.authority.agent("component", capabilities=["credential:use"])
    client = service.client(agent)
    for number, case in enumerate(vectors.cases):
        _check(client, _credential(service, module, name, vectors, case, number), case)


def _credential(
    service: Service, module: str, name: str, vectors: VectorFile, case: Vector, number: int
) -> str:
    """One credential per file, and one more where a case has public fields of its own."""
    credential = f"{module}-{name}" + (f"-{number}" if case.shareable else "")
    if not case.shareable and number:
        return credential
    (secret,) = vectors.confidential.items()
    service.put(credential, module, fields={**vectors.shareable, **case.shareable}, secret=secret)
    return credential


def _check(client: SigningClient, credential: str, case: Vector) -> None:
    released = client.use(credential, case.operation, case.request).release
    assert case.expect.outputs
    for sink, text in case.expect.outputs.items():
        assert released[sink] == text, case.title
    shown = client.explain(credential, case.operation, case.request).bindings
    for binding, text in case.expect.bindings.items():
        assert shown[binding] == text, case.title
