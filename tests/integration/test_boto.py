"""boto3, with the running service as its signer, sends what botocore's own signer would have sent."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import boto3
import botocore.auth
import pytest
from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest, AWSResponse
from botocore.credentials import Credentials
from botocore.exceptions import UnsupportedSignatureVersionError

from credsvc.client import SigningClient
from credsvc.client.boto import remote_session
from ostiary.errors import Forbidden, Misconfigured
from tests.support.credential_service import AWS_SECRET, Service
from tests.support.waiting import PATIENCE_S

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def service(shared_credentials: Service) -> Service:
    return shared_credentials


@pytest.fixture
def client(service: Service) -> SigningClient:
    return service.client(service.authority.agent("component", capabilities=["credential:use"]))


class Empty:
    """A body without a byte."""

    def stream(self, **_more: Any) -> Iterator[bytes]:
        return iter([b""])

    def read(self) -> bytes:
        return b""


class Wire:
    """Keeps what would have been sent and answers with nothing."""

    def __init__(self) -> None:
        self.sent: list[Any] = []

    def __call__(self, request: Any, **_more: Any) -> AWSResponse:
        self.sent.append(request)
        return AWSResponse(request.url, 200, {}, Empty())


def _session(client: SigningClient, region: str = "eu-north-1") -> tuple[Any, Wire]:
    core = remote_session(client, "billing-aws")
    wire = Wire()
    core.get_component("event_emitter").register("before-send", wire)
    return boto3.Session(botocore_session=core, region_name=region), wire


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _resigned(sent: Any, signer: type[SigV4Auth], service_name: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The authorization header that botocore makes with the secret, of the headers that were signed, at the
    same moment.
    """
    headers = {name.lower(): _text(value) for name, value in sent.headers.items()}
    moment = dt.datetime.strptime(headers["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=dt.UTC)
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda: moment)
    signed = headers["authorization"].partition("SignedHeaders=")[2].partition(",")[0].split(";")
    kept = {name: headers[name] for name in signed if name != "host"}
    request = AWSRequest(method=sent.method, url=sent.url, data=sent.body, headers=kept)
    signer(Credentials("AKIDEXAMPLE", AWS_SECRET), service_name, "eu-north-1").add_auth(request)
    header: str = request.headers["Authorization"]
    return header


def _authorization(sent: Any) -> str:
    return _text(sent.headers["Authorization"])


def test_s3(client: SigningClient, monkeypatch: pytest.MonkeyPatch) -> None:
    session, wire = _session(client)
    session.client("s3", endpoint_url="http://127.0.0.1:1").put_object(
        Bucket="billing", Key="a b/../c+d", Body=b"hello", Metadata={"x": "  two   words "}
    )
    (sent,) = wire.sent
    assert _authorization(sent) == _resigned(sent, S3SigV4Auth, "s3", monkeypatch)


def test_another_service(client: SigningClient, monkeypatch: pytest.MonkeyPatch) -> None:
    session, wire = _session(client)
    session.client("lambda").get_function(FunctionName="f:$LATEST")
    (sent,) = wire.sent
    assert _authorization(sent) == _resigned(sent, SigV4Auth, "lambda", monkeypatch)


def test_what_is_not_for_us_to_sign_fails(client: SigningClient) -> None:
    session, _wire = _session(client)
    with pytest.raises(UnsupportedSignatureVersionError):
        session.client("s3").generate_presigned_url("get_object", {"Bucket": "b", "Key": "k"})


def test_a_refusal_reaches_the_caller(client: SigningClient) -> None:
    session, _wire = _session(client, region="us-east-1")
    with pytest.raises(Forbidden) as refused:
        session.client("sts").get_caller_identity()
    assert refused.value.rule == "ceiling"


def test_a_credential_that_is_not_ours(service: Service) -> None:
    stranger = service.client(service.authority.agent("stranger", capabilities=["credential:use"]))
    with pytest.raises(Misconfigured):
        remote_session(stranger, "billing-aws")


def test_the_command_line_signs(service: Service, tmp_path: Any) -> None:
    agent = service.authority.agent("component", capabilities=["credential:use"])
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(agent.identity_pem)
    command = [
        *(sys.executable, "-m", "ostiary.cli", "sign", "grid", "sign", "--bundle", "fd:3"),
        *("--url", "https://credentials.nodes.shop.example", "--address", f"127.0.0.1:{service.port}"),
        *("--root", str(service.folder / "root.pem")),
    ]
    script = 'exec 3<"$0"; exec "$@"'
    done = subprocess.run(
        ["/bin/sh", "-c", script, str(bundle), *command],
        input=b"{}",
        capture_output=True,
        check=True,
        timeout=PATIENCE_S,
    )
    assert json.loads(done.stdout)["release"]["query.api_key"] == "foo"
