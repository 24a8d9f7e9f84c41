"""What agents ask of a credentials service in the benchmarks: SigV4 signatures, each for another object.

with running() as service:
    signing = Signing(service, agents=1000)
    done = signing.load(clients=16, agents=1000)
"""

from __future__ import annotations

import json
import secrets
import time
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Final

from benchmarks.feed import ticking
from benchmarks.load import NUMBER, SECONDS, Identity, Load, Measured, request_bytes, run_load
from benchmarks.stages import SHOWN_S, Stages, cpu_by_role
from ostiary.edge.http_client import HTTPClient
from ostiary.errors import NotFound
from tests.support.credential_service import POLICY, SERVICE_NODE, Service

PATH: Final = "/v1/credentials/billing-aws/operations/sign"
BATCH: Final = 64
_RESERVED: Final = 400_000
"""Numbers for one load: 25 of them come before the numbers begin again."""
BUCKET_HOST: Final = "objects.s3.eu-central-1.amazonaws.com"
_READS: Final = '@id("bench-reads") permit(principal, action == Action::"read", resource);'
WARM: Final = POLICY + _READS
"""Reads nothing of a request: its decisions may be remembered."""
COLD: Final = f"""
@id("photos-only")
permit(
  principal in SubSystem::"component",
  action == Action::"aws-sigv4/sign",
  resource in Label::"billing"
) when {{ context.path like "/photos/*" && context.region == "eu-central-1" }};
{_READS}
"""
"""Reads the path, which is another in every request: each decision is a new one."""


def object_request() -> dict[str, Any]:
    """A request to sign: a part of an S3 object whose name has a number."""
    return {
        "method": "GET",
        "url": f"https://{BUCKET_HOST}/photos/2026/{NUMBER}.jpg?partNumber=1",
        "headers": {"Range": "bytes=0-1023", "Accept": "*/*"},
        "region": "eu-central-1",
        "service": "s3",
    }


def _post(path: str, body: object) -> bytes:
    return request_bytes(
        "POST", path, json.dumps(body).encode(), host=SERVICE_NODE, content_type="application/json"
    )


SINGLE: Final = _post(PATH, {"request": object_request()})
BATCHED: Final = _post(f"{PATH}/batch", {"requests": [object_request() for _ in range(BATCH)]})


class Signing:
    """Agents of one service, and their loads."""

    def __init__(self, service: Service, *, agents: int) -> None:
        self.service = service
        self.roles = service.home / "credsvc" / "run" / "roles.json"
        self.agents = [
            service.authority.agent("component", capabilities=["credential:use", "ledger:read"])
            for _ in range(agents)
        ]
        self._identities = [Identity(pem=agent.identity_pem) for agent in self.agents]
        self._number = 0

    def load(
        self,
        *,
        clients: int,
        agents: int = 1,
        seconds: float = SECONDS,
        request: bytes = SINGLE,
        during: AbstractContextManager[object] | None = None,
    ) -> Measured:
        """Have so many clients sign at once, for so many agents with a connection of each, while the feed
        ticks.
        """
        load = self.prepared(clients=clients, agents=agents, seconds=seconds, request=request)
        with ticking(lambda: self.service.ca.revoke(f"7f{secrets.token_hex(19)}")):
            return run_load(load, cpu=partial(cpu_by_role, self.roles), during=during)

    def prepared(
        self,
        *,
        clients: int,
        agents: int = 1,
        seconds: float = SECONDS,
        request: bytes = SINGLE,
    ) -> Load:
        """What `load` does, for whoever runs it in another way; nobody else uses its numbers."""
        first, self._number = self._number, self._number + _RESERVED
        return Load(
            address=("127.0.0.1", self.service.port),
            server_name=SERVICE_NODE,
            root_pem=self.service.authority.pem,
            identities=self._identities[:agents],
            requests=[request],
            repeats=True,
            first_number=first,
            connections=max(clients, agents),
            in_flight=clients,
            seconds=seconds,
        )

    def has_batches(self) -> bool:
        """Whether the service signs several requests in one call."""
        body = BATCHED.partition(b"\r\n\r\n")[2].replace(NUMBER.encode(), b"0000000")
        try:
            with self._http() as client:
                client.request("POST", f"{PATH}/batch", body=body, content_type="application/json")
        except NotFound:
            return False
        return True

    def _http(self) -> AbstractContextManager[HTTPClient]:
        return self.service.client(self.agents[0])._http()  # noqa: SLF001 - the fixture of the tests

    def stages(self) -> tuple[Stages, Stages]:
        """The front's and the recorder's numbers so far."""
        time.sleep(SHOWN_S)
        with self._http() as client:
            front = client.request("GET", "/metrics").body.decode()
        recorder = self.service.home / "credsvc" / "store" / "recorder.prom"
        return Stages.parse(front), Stages.parse(recorder.read_text())
