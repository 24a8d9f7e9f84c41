"""What managers ask of a CA in the benchmarks: certificates for agents spawned on their nodes, each with a
key and an id of its own.

    with running_ca() as ca:
        issuing = Issuing(ca, managers=1000)
        done = issuing.load(clients=8, managers=1000)
"""

from __future__ import annotations

import base64
import json
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from cryptography import x509

from benchmarks.feed import ticking
from benchmarks.load import SECONDS, Identity, Load, Measured, request_bytes, run_load
from benchmarks.stages import SHOWN_S, Stages, cpu_by_role
from ostiary.edge.home import ServiceHome
from ostiary.edge.tls import build_identity_pem
from tests.support.ca_service import CA_NODE, DOMAIN, Agent, RunningCA, csr_of, new_key
from tests.support.patient_client import PatientAdminClient

MADE_PER_S: Final = 2500
"""Requests made for each second of a load; one that runs out of them ends early."""
_ENROLLERS: Final = 8
_FOLLOWED_S: Final = 1


@dataclass(frozen=True, kw_only=True)
class Node:
    """A node's manager, and the controller for which it asks."""

    manager: Agent
    spawner: Agent


def spawn(spawner: Agent) -> dict[str, Any]:
    """What a manager asks for a new agent."""
    return {
        "subsystem": "component-harness",
        "capabilities": ["credential:use"],
        "endpoints": [],
        "spawner": spawner.serial,
        "csr": base64.b64encode(csr_of(new_key())).decode(),
        "agent": str(uuid.uuid4()),
    }


def spawn_request(spawner: Agent) -> bytes:
    """The whole request for a new agent."""
    body = json.dumps(spawn(spawner)).encode()
    return request_bytes("POST", "/v1/agents", body, host=CA_NODE, content_type="application/json")


class _Enroller:
    """Enrolls nodes with an operator's tokens; one per thread."""

    def __init__(self, ca: RunningCA) -> None:
        self._ca = ca
        self._client = ca.client()
        self._admin = PatientAdminClient(ServiceHome(ca.home / "ca").operator_socket, service="ca")

    def enroll(self, number: int) -> Node:
        node = f"n{number}.{DOMAIN}"
        return Node(
            manager=self._agent("certificate-manager", node, "enroll:node"),
            spawner=self._agent("node-controller", node, "spawn:component-harness"),
        )

    def _agent(self, subsystem: str, node: str, capability: str) -> Agent:
        made = self._admin.call("token.create", subsystem=subsystem, node=node, capabilities=[capability])
        return self._ca.redeem(made["token"], new_key(), self._client)


def enroll_nodes(ca: RunningCA, count: int) -> list[Node]:
    """Enroll manager and controller of so many nodes, some side by side."""
    mine = threading.local()

    def start() -> None:
        mine.enroller = _Enroller(ca)

    def enroll(number: int) -> Node:
        enroller: _Enroller = mine.enroller
        return enroller.enroll(number)

    with ThreadPoolExecutor(_ENROLLERS, initializer=start) as pool:
        return list(pool.map(enroll, range(1, count + 1)))


class Issuing:
    """Managers of one CA, and their loads."""

    def __init__(self, ca: RunningCA, *, managers: int) -> None:
        self.ca = ca
        self.roles = ca.home / "ca" / "run" / "roles.json"
        self.nodes = enroll_nodes(ca, managers)
        self._issuing = x509.load_pem_x509_certificate(ca.issuing_pem)

    def identity(self, node: Node, requests: Sequence[bytes] = ()) -> Identity:
        """A manager, with the requests that it makes."""
        chain = [node.manager.certificate, self._issuing]
        return Identity(pem=build_identity_pem(node.manager.key, chain), requests=requests)

    def load(
        self,
        *,
        clients: int,
        managers: int = 1,
        seconds: float = SECONDS,
        count: int = 0,
        during: AbstractContextManager[object] | None = None,
    ) -> Measured:
        """Have so many clients ask at once, for so many managers with a connection of each, while the feed
        ticks; `count` ends it after so many certificates.
        """
        nodes = self.nodes[:managers]
        # With those that make connections warm; a node's are its connections' together.
        warm = 4 * max(clients, managers)
        each = -(-((count or int(seconds * MADE_PER_S)) + warm) // len(nodes))
        identities = [
            self.identity(node, [spawn_request(node.spawner) for _ in range(each)]) for node in nodes
        ]
        load = Load(
            address=self.ca.address,
            server_name=CA_NODE,
            root_pem=self.ca.root_pem,
            identities=identities,
            connections=max(clients, managers),
            in_flight=clients,
            seconds=seconds,
        )
        with self.feed():
            return run_load(load, cpu=partial(cpu_by_role, self.roles), during=during)

    @contextmanager
    def feed(self) -> Iterator[None]:
        """Agents that end, and somebody who follows their revocations."""
        node = self.nodes[0]
        client = self.ca.client(node.manager)

        def revoke_one() -> None:
            made = client.call("POST", "/v1/agents", spawn(node.spawner), type_=dict[str, str])
            serial = made["serial_number"]
            reason = {"reason": "cessationOfOperation"}
            client.call("POST", f"/v1/certificates/{serial}/revoke", reason, type_=dict[str, Any])

        with followed(self.ca, node.manager), ticking(revoke_one):
            yield

    def stages(self) -> tuple[Stages, Stages]:
        """The front's and the recorder's numbers so far."""
        time.sleep(SHOWN_S)
        front = self.ca.client(self.nodes[0].manager).request("GET", "/metrics").body.decode()
        return Stages.parse(front), Stages.parse(
            (self.ca.home / "ca" / "store" / "recorder.prom").read_text()
        )


@contextmanager
def followed(ca: RunningCA, agent: Agent) -> Iterator[None]:
    """Somebody waits for revocations all the time, as a credentials service does."""
    client, over = ca.client(agent), threading.Event()

    def follow() -> None:
        since: object = 0
        while not over.is_set():
            path = f"/v1/revocations?since={since}&wait={_FOLLOWED_S}"
            since = client.call("GET", path, type_=dict[str, Any])["next"]

    thread = threading.Thread(target=follow)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
